import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.tui.conftest import FakeAgent, reply

from subterra.runtime.errors import InputError
from subterra.tui import chat


class Stream(io.StringIO):
    """Text stream that says whether it is a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def opened_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the agent by a fake; holds the options it was opened with."""
    options: dict[str, Any] = {}

    @contextmanager
    def open_fake(path: Path, **given: Any) -> Iterator[FakeAgent]:
        options.update(given, path=path)
        yield FakeAgent(reply("Click the arrow."))

    monkeypatch.setattr(chat, "open_agent", open_fake)
    return options


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    chat.add_arguments(parser)
    return parser.parse_args(["zoom.agent", *given])


def streams(monkeypatch: pytest.MonkeyPatch, *terminal: str, text: str = "") -> dict[str, Stream]:
    made = {
        name: Stream(text if name == "stdin" else "", terminal=name in terminal)
        for name in ("stdin", "stdout", "stderr")
    }
    for name, stream in made.items():
        monkeypatch.setattr(sys, name, stream)
    return made


@pytest.mark.usefixtures("opened_with")
def test_a_pipe_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    made = streams(monkeypatch, text="no sound\n")
    assert chat.run(arguments()) == 0
    assert made["stdout"].getvalue() == (
        "Agent: Hello, this is Zoom support.\nYou: no sound\nAgent: Click the arrow. \n"
    )
    said = made["stderr"].getvalue()
    assert "Zoom support, Q8_0, sealed: descriptors, landlock, seccomp" in said
    assert "next: subterra prove zoom.agent" in said
    assert "\x1b" not in made["stdout"].getvalue() + said


@pytest.mark.parametrize(("given", "held"), [([], True), (["--unconstrained"], False)])
def test_the_agent_is_held_to_its_transitions_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, opened_with: dict[str, Any], given: list[str], held: bool
) -> None:
    streams(monkeypatch)
    assert chat.run(arguments(*given)) == 0
    assert opened_with["constrained"] is held


@pytest.mark.usefixtures("opened_with")
def test_a_script_is_played_and_states_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "lines.txt"
    script.write_text("no sound\n\n/quit\n")
    made = streams(monkeypatch, "stdin", "stdout", "stderr")
    assert chat.run(arguments("--script", str(script), "--state")) == 0
    out = made["stdout"].getvalue()
    assert out.startswith("State: start > welcome | ?\nAgent: Hello")
    assert "You: no sound\nAgent: Click the arrow." in out


@pytest.mark.usefixtures("opened_with")
def test_a_terminal_in_plain_mode_is_prompted_and_not_echoed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = streams(monkeypatch, "stdin", "stdout", "stderr", text="no sound\n")
    assert chat.run(arguments("--plain")) == 0
    assert made["stdout"].getvalue().count("no sound") == 0
    assert made["stdout"].getvalue().count("You: ") == 2


def test_the_options_reach_the_agent(
    opened_with: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    streams(monkeypatch)
    chat.run(arguments("--variant", "F16", "--guard", "off", "--export-to", str(tmp_path)))
    assert opened_with == {
        "path": Path("zoom.agent"),
        "variant": "F16",
        "guard": "off",
        "key": None,
        "allow_unsigned": False,
        "export_folder": tmp_path,
        "constrained": True,
    }


@pytest.mark.usefixtures("opened_with")
def test_a_terminal_gets_the_full_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []
    monkeypatch.setattr(chat, "run_app", lambda _agent, show_state: started.append(show_state))
    monkeypatch.setenv("TERM", "xterm-256color")
    streams(monkeypatch, "stdin", "stdout", "stderr")
    assert chat.run(arguments("--state")) == 0
    assert started == [True]


@pytest.mark.parametrize(
    ("terminals", "term"),
    [
        (("stdin", "stdout"), "xterm"),
        (("stdout", "stderr"), "xterm"),
        (("stdin", "stderr"), "xterm"),
        (("stdin", "stdout", "stderr"), "dumb"),
        (("stdin", "stdout", "stderr"), ""),
    ],
)
def test_the_full_screen_needs_three_terminals_that_can_draw(
    terminals: tuple[str, ...], term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams(monkeypatch, *terminals)
    monkeypatch.setenv("TERM", term)
    assert not chat.full_screen_possible()


@pytest.mark.usefixtures("opened_with")
@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_a_script_that_cannot_be_played_is_refused(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "lines.txt"
    if kind == "empty":
        script.touch()
    elif kind == "folder":
        script.mkdir()
    with pytest.raises(InputError) as caught:
        chat.run(arguments("--script", str(script)))
    assert str(script) in str(caught.value)
    assert caught.value.hint
