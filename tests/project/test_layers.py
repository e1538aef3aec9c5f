"""The order of the five portions, and what importing them costs."""

import argparse
import ast
import importlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subterra.runtime.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
ORDER = ("runtime", "models", "compile", "quantize", "tui")
"""Each portion imports from itself and from those before it."""
HEAVY = {"torch", "transformers", "textual"}
DEVICE_MODULES = ("session", "engine", "bundle", "guard")
HELP_SECONDS = 0.15
"""CPU time, user and system: the wall clock belongs to whatever else runs."""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and dotted name of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def sources(portion: str) -> list[Path]:
    return sorted((ROOT / portion / "subterra").rglob("*.py"))


@pytest.mark.parametrize("portion", ORDER)
def test_a_portion_imports_only_from_itself_and_what_lies_below(portion: str) -> None:
    assert sources(portion)
    above = tuple(f"subterra.{name}" for name in ORDER[ORDER.index(portion) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(portion)
        for line, name in imports_of(path)
        if ".".join(name.split(".")[:2]) in above
    ]
    assert not wrong


def test_the_runtime_never_imports_a_heavy_library() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("runtime")
        for line, name in imports_of(path)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_no_portion_claims_the_namespace() -> None:
    assert sorted(path.parent.name for path in ROOT.glob("*/subterra/*/__init__.py")) == (
        sorted(ORDER)
    )
    assert not list(ROOT.glob("*/subterra/__init__.py"))


@pytest.mark.parametrize("module", DEVICE_MODULES)
def test_a_device_module_loads_no_heavy_library(module: str) -> None:
    code = (
        f"import sys, subterra.runtime.{module}\n"
        "print(*({'torch', 'transformers', 'textual', 'ruamel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_names_every_verb_and_is_quick(cli: Callable[..., Any]) -> None:
    runs = [cli("--help") for _ in range(5)]
    assert all(run.code == 0 for run in runs)
    assert {line.split()[0] for line in runs[0].out.splitlines() if line[:2] == "  "} == set(VERBS)
    assert statistics.median(run.cpu_seconds for run in runs) < HELP_SECONDS


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_a_module_arguments_and_help(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, extra, summary = VERBS[verb]
    assert summary
    assert extra in {"base", "gguf", "compile", "quantize", "tui"}
    module = importlib.import_module(name)
    assert callable(module.run)
    parser = argparse.ArgumentParser(prog=f"subterra {verb}", description=summary)
    module.add_arguments(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    assert stop.value.code == 0
    assert f"usage: subterra {verb}" in capsys.readouterr().out


def test_an_unknown_verb_is_refused_in_words(cli: Callable[..., Any]) -> None:
    run = cli("chatt")
    assert run.code == 2
    assert "unknown verb 'chatt'" in run.err
    assert not run.out
