"""Every command that a README or build script shows exists and takes the options shown."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from subterra.runtime.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^([\w.-]+)\s*:(?!=)", re.MULTILINE)
JOINS = ("|", "||", "&&", ";", ">", ">>", "2>", "<")
"""What ends a command's own words."""


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of every `subterra` and `make` command in the sh blocks, or the script."""
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.findall(text) if path.suffix == ".md" else [text]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in JOINS), len(words))
                command, words = words[:end], words[end + 1 :]
                if command and Path(command[0]).name in ("subterra", "make"):
                    yield [Path(command[0]).name, *command[1:]]


def files() -> list[Path]:
    examples = ROOT / "examples"
    shown = [*examples.glob("*/README.md"), *examples.glob("*/build.sh")]
    return [ROOT / "README.md", *sorted(shown)]


SHOWN = [
    pytest.param(words, id=f"{path.relative_to(ROOT)}: {shlex.join(words)}")
    for path in files()
    if path.is_file()
    for words in commands(path)
]


def test_the_readme_shows_commands() -> None:
    found = [words[:2] for words in commands(ROOT / "README.md")]
    assert ["make", "demo"] in found
    assert [words for words in found if words[0] == "subterra"]


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_exists_and_takes_these_options(words: list[str]) -> None:
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        known = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
        assert targets
        assert set(targets) <= known
        return
    verb, *options = words[1:]
    if verb in ("--help", "--version"):
        return
    assert verb in VERBS
    parser = argparse.ArgumentParser(prog=f"subterra {verb}", exit_on_error=False)
    importlib.import_module(VERBS[verb][0]).add_arguments(parser)
    if "--help" not in options:
        parser.parse_args(options)


@pytest.mark.parametrize("words", SHOWN)
def test_example_paths_exist(words: list[str]) -> None:
    shown = [word for word in words if word.startswith("examples/")]
    assert [word for word in shown if not (ROOT / word).exists()] == []
