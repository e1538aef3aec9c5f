"""A dry run tells what a compile would train on, and leaves nothing behind."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from subterra.compile import compile as compiling
from subterra.compile.dry_run import _percentiles
from subterra.compile.dry_run_text import document_lines
from subterra.compile.settings import TrainSettings
from subterra.runtime.cli import main
from subterra.runtime.errors import UsageError

DryRun = Callable[..., tuple[str, str]]


@pytest.fixture
def dry_run(
    kettle_folder: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> DryRun:
    """Run it; give stdout and stderr."""
    quick = replace(TrainSettings(), validations=2, validation_dialogues=4)
    monkeypatch.setattr(compiling, "TrainSettings", lambda: quick)
    monkeypatch.chdir(tmp_path)

    def dry_run(*options: str) -> tuple[str, str]:
        sizes = ["--dialogues", "30", "--batch", "2", "--rank", "2"]
        arguments = ["compile", str(kettle_folder), "--base", str(tiny_checkpoint), *sizes]
        assert main([*arguments, "--dry-run", *options]) == 0
        shown = capsys.readouterr()
        assert list(tmp_path.iterdir()) == []
        return shown.out, shown.err

    return dry_run


@pytest.fixture
def document(dry_run: DryRun) -> dict[str, Any]:
    found = json.loads(dry_run("--json", "--rate-tokens", "250")[0])
    assert isinstance(found, dict)
    return found


def test_the_document_holds_the_plan(document: dict[str, Any]) -> None:
    assert (document["planned_dialogues"], document["steps"]) == (30, 15)
    assert document["tokens"] == sum(document["tokens_by_kind"].values())
    assert document["seconds"] == round(document["tokens"] / 250)
    assert document["rate_source"] == "given by --rate-tokens"
    lengths = list(document["dialogue_tokens"].values())
    assert lengths == sorted(lengths)
    wordings = list(document["wordings"].values())
    assert wordings == sorted(wordings)
    assert document["wordings"]["say_leak"] == 4
    kinds = {span["kind"] for d in document["dialogues"] for span in d["spans"]}
    assert kinds == {"read", "state", "choice", "reply"}
    assert document["learnt"]["reply"] == {"weight": 0.3, "share": 0.3}


def test_edges_that_no_dialogue_takes_are_named(document: dict[str, Any]) -> None:
    taken = {(e["from"], e["to"], e["condition"]): e["taken"] for e in document["edges"]}
    assert taken["hello", "sort", "next"] == 30
    assert taken["check", "retry", "default"] == 0
    assert "check -> retry (default)" in document["never_taken"]
    assert len(document["never_taken"]) == sum(not count for count in taken.values())


def test_people_see_text_with_marks_edges_and_the_time(dry_run: DryRun) -> None:
    out, err = dry_run("--rate-tokens", "250")
    assert "⟦state:start > hello | ? | ?\n⟧" in out
    assert "<|im_start|>user\n" in out
    assert "never taken: " in out
    assert "tokens/s (given by --rate-tokens)" in out
    assert "fewest first: works+chat 2" in out or "fewest first: chat 2" in out
    assert "next: subterra compile" in err


def test_without_a_rate_two_steps_are_timed(dry_run: DryRun) -> None:
    out, err = dry_run("--json", "--processes", "1")
    found = json.loads(out)
    assert found["tokens_per_second"] > 0
    assert found["rate_source"].startswith("measured now, over 2 steps")
    assert "timing two steps" in err


def test_dialogues_beyond_the_context_are_a_warning(document: dict[str, Any]) -> None:
    assert document["beyond_context"] == 0
    lines = "\n".join(document_lines(document | {"beyond_context": 3}))
    assert "3 are longer than the context of 2048 tokens" in lines


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_that_makes_no_sense_is_refused(
    kettle_folder: Path, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compile", str(kettle_folder), "--dry-run", "--rate-tokens", rate])
    assert code == UsageError.exit_code
    assert "--rate-tokens" in capsys.readouterr().err


def test_percentiles_are_nearest_ranks() -> None:
    assert _percentiles(range(1, 201)) == {
        "p5": 10,
        "p50": 100,
        "p90": 180,
        "p99": 198,
        "p100": 200,
    }
    assert set(_percentiles([7]).values()) == {7}
