import io
import os
import signal

import pytest
from tests.tui.conftest import FakeAgent, reply

from subterra.runtime.errors import EngineError, UsageError
from subterra.tui.events import Done, Piece, State
from subterra.tui.plain import ENDED, INTERRUPTED, read_lines, talk

FIX = State("report audio > fix audio | audio", "fix_audio", ("report_audio",))


def played(agent: FakeAgent, *lines: str, states: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    code = talk(agent, iter(lines), out, echo=True, states=states)
    return code, out.getvalue()


def test_a_script_gives_the_whole_transcript() -> None:
    code, text = played(FakeAgent(reply("Click the arrow.")), "no sound\n", "\n")
    assert code == 0
    assert text == (
        "Agent: Hello, this is Zoom support.\nYou: no sound\nAgent: Click the arrow. \n"
    )


def test_state_lines_come_before_the_reply_when_asked_for() -> None:
    _, text = played(FakeAgent(reply("Click.", state=FIX)), "no sound", states=True)
    assert "State: start > welcome | ?\nAgent: Hello" in text
    assert "State: report audio > fix audio | audio\nAgent: Click." in text
    _, text = played(FakeAgent(reply("Click.", state=FIX)), "no sound")
    assert "State:" not in text


def test_an_ended_conversation_is_said_and_new_starts_another() -> None:
    agent = FakeAgent(reply("Goodbye.", ended=True, notices=("A note.",)))
    _, text = played(agent, "works", "/new", "/quit", "never said")
    assert f"Agent: Goodbye. \nNote: A note.\n{ENDED}\n" in text
    assert agent.resets == 1
    assert text.count("Agent: Hello") == 2
    assert agent.heard == ["works"]


def test_no_escape_sequence_reaches_the_pipe() -> None:
    agent = FakeAgent((Piece("\x1b[31mred\x07"), Done(1)))
    _, text = played(agent, "x \x1b[2J y")
    assert "\x1b" not in text
    assert agent.heard == ["x y"]


def test_a_reply_stopped_before_its_first_word_still_has_its_line() -> None:
    _, text = played(FakeAgent((Done(0, cancelled=True),)), "x")
    assert text.endswith("You: x\nAgent: (stopped)\n")


def test_the_first_interrupt_stops_the_reply_only(capfd: pytest.CaptureFixture[str]) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    agent.before_piece = lambda piece: (
        os.kill(os.getpid(), signal.SIGINT) if piece == "the " else None
    )
    code, text = played(agent, "no sound", "go on")
    assert code == 0
    assert "Agent: Click  (stopped)\nYou: go on\nAgent: I see. \n" in text
    assert "Ctrl+C once more" in capfd.readouterr().err


def test_the_second_interrupt_leaves() -> None:
    def twice(piece: str) -> None:
        if piece == "the ":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    agent = FakeAgent(reply("Click the arrow."))
    agent.before_piece = twice
    before = signal.getsignal(signal.SIGINT)
    code, _ = played(agent, "no sound", "go on")
    assert code == INTERRUPTED
    assert agent.heard == ["no sound"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_refused_message_does_not_end_the_conversation() -> None:
    agent = FakeAgent((UsageError("the message is too long", hint="shorten it"),))
    code, text = played(agent, "long", "short")
    assert code == 0
    assert "Note: the message is too long; shorten it\nYou: short\nAgent: I see." in text


def test_a_failing_engine_ends_plain_mode_with_its_own_error() -> None:
    with pytest.raises(EngineError):
        played(FakeAgent((EngineError("lost", hint="again"),)), "x")


def test_a_terminal_is_asked_for_each_line() -> None:
    out = io.StringIO()
    assert list(read_lines(io.StringIO("a\nb"), out, prompt=True)) == ["a\n", "b"]
    assert out.getvalue() == "You: You: You: \n"
