"""`subterra show` prints counts, the drawing and the tree."""

import json
from pathlib import Path

import pytest

from subterra.compile.mermaid import flowchart
from subterra.compile.node_tree import plain_tree
from subterra.compile.procedure import Edge, Node, Procedure
from subterra.compile.validation import load_procedure
from subterra.runtime.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"


def small() -> Procedure:
    nodes = (
        Node("hello", "agent", asks=("colour",), next="choose"),
        Node(
            "choose",
            "hub",
            edges=(Edge("done", 'says "stop" <now> #1'), Edge("hello", "no colour")),
            default="done",
        ),
        Node("done", "terminal", outcome="success"),
    )
    return Procedure("small", "Small", "S", "hello", (), (), (), (), (), nodes)


def test_the_json_document_has_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(EXAMPLE), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {key: found[key] for key in ("nodes", "hubs", "terminals", "edges")} == {
        "nodes": 14,
        "hubs": 3,
        "terminals": 3,
        "edges": 27,
    }
    assert found["acyclic_paths"] == 68
    assert found["acyclic_paths_exact"] is True
    assert (found["slots"], found["intents"]) == (2, 18)
    assert captured.err == f"\nnext: subterra build {EXAMPLE}\n"


def test_the_default_output_has_counts_and_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(EXAMPLE / "procedure.yaml")]) == 0
    out = capsys.readouterr().out
    assert "acyclic paths  68" in out
    assert "└── triage" in out
    assert "\x1b" not in out


def test_a_small_procedure_is_drawn_as_mermaid() -> None:
    assert flowchart(small()) == (
        "flowchart TD\n"
        '    n_hello["hello"]\n'
        '    n_choose{"choose"}\n'
        '    n_done(["done: success"])\n'
        "    n_hello --> n_choose\n"
        '    n_choose -->|"says #quot;stop#quot; #lt;now#gt; #35;1"| n_done\n'
        '    n_choose -->|"no colour"| n_hello\n'
        '    n_choose -.->|"otherwise"| n_done\n'
    )


def test_the_example_is_drawn_with_every_edge(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(EXAMPLE), "--mermaid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flowchart TD"
    assert sum("->" in line for line in lines) == 27
    assert '    n_response -->|"the fix helped"| n_verify' in lines
    assert lines == flowchart(load_procedure(EXAMPLE)).splitlines()


def test_the_tree_draws_each_node_once() -> None:
    assert plain_tree(small()) == (
        "hello  asks colour\n"
        "└── choose\n"
        '    ├── says "stop" <now> #1; otherwise → done  ends: success\n'
        "    └── no colour → hello (above)\n"
    )


def test_a_missing_procedure_is_two_lines_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(tmp_path / "no.yaml")]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("no.yaml: there is no such file")
    assert lines[1].startswith("  next: ")
