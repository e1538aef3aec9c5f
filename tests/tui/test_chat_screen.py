import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tui.conftest import (
    PATIENCE_S,
    FakeAgent,
    opened,
    reply,
    screen_text,
    send,
    shown,
    spoken,
    wait_for,
)
from textual.widgets import Static

from subterra.runtime.errors import EngineError
from subterra.tui.app import ChatApp
from subterra.tui.chat_screen import ENDED, ChatScreen
from subterra.tui.composer import ENDED_PLACEHOLDER, Composer
from subterra.tui.conversation import EMPTY_STATE
from subterra.tui.events import Piece, State
from subterra.tui.seal import Seal
from subterra.tui.state_pane import StatePane
from subterra.tui.status_bar import StatusBar, status_line

FIX = State(
    "report audio > fix audio | audio", "fix_audio", ("report_audio",), (("issue", "audio"),)
)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Hold the agent at a piece until the test sets it; always open at the end."""
    event = threading.Event()
    yield event
    event.set()


def hold_at(agent: FakeAgent, text: str, gate: threading.Event) -> None:
    agent.before_piece = lambda piece: None if piece != text else _wait(agent, gate)


def _wait(agent: FakeAgent, gate: threading.Event) -> None:
    deadline = time.monotonic() + PATIENCE_S  # a test that failed must not hang at its end
    while not gate.wait(0.005) and not agent.cancelled and time.monotonic() < deadline:
        pass


async def test_the_agent_opens_the_conversation_on_start() -> None:
    async with ChatApp(FakeAgent()).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert shown(screen) == ["Hello, this is Zoom support."]


async def test_a_sentence_fills_the_screen_until_the_agent_is_ready(gate: threading.Event) -> None:
    agent = FakeAgent()
    hold_at(agent, "Hello, this is ", gate)
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: EMPTY_STATE in screen_text(app))
        gate.set()
        await opened(pilot)
        await wait_for(pilot, lambda: EMPTY_STATE not in screen_text(app))


async def test_enter_sends_and_the_reply_streams_in(gate: threading.Event) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        hold_at(agent, "the ", gate)
        await send(pilot, "no sound")
        await wait_for(pilot, lambda: shown(screen)[-1] == "Click")
        await wait_for(pilot, lambda: "Click▍" in screen_text(app))  # a reply in progress
        gate.set()
        await spoken(pilot, screen, "Click the arrow.")
        assert agent.heard == ["no sound"]
        assert shown(screen)[1] == "no sound"
        await wait_for(pilot, lambda: "▍" not in screen_text(app))


async def test_speakers_are_labelled_in_words() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "hi")
        await spoken(pilot, screen, "I see.")
        await wait_for(pilot, lambda: screen_text(app).count("▌ Agent") == 2)
        assert screen_text(app).count("▌ You") == 1


async def test_escape_stops_the_reply_within_a_tenth_of_a_second(gate: threading.Event) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        hold_at(agent, "the ", gate)
        await send(pilot, "no sound")
        await wait_for(pilot, lambda: shown(screen)[-1] == "Click")
        started = time.monotonic()
        screen.action_cancel()
        assert agent.cancelled
        assert time.monotonic() - started < 0.1
        await wait_for(pilot, lambda: not screen.busy)
        assert "Agent: Click (stopped)" in screen.transcript.as_text()


async def test_the_escape_key_is_bound_to_stop(gate: threading.Event) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        hold_at(agent, "the ", gate)
        await send(pilot, "no sound")
        await wait_for(pilot, lambda: shown(screen)[-1] == "Click")
        await pilot.press("escape")
        await wait_for(pilot, lambda: not screen.busy)
        await wait_for(pilot, lambda: "Agent (stopped)" in screen_text(app))


async def test_a_message_typed_during_a_reply_stays_in_the_composer(gate: threading.Event) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        hold_at(agent, "the ", gate)
        await send(pilot, "no sound")
        await send(pilot, "hurry")
        assert screen.query_one(Composer).text == "hurry"
        gate.set()
        await spoken(pilot, screen, "Click the arrow.")
        await pilot.press("enter")
        await spoken(pilot, screen, "I see.")
        assert agent.heard == ["no sound", "hurry"]


async def test_reset_during_a_reply_leaves_nothing_of_it(gate: threading.Event) -> None:
    agent = FakeAgent(reply("Click the arrow."))
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        hold_at(agent, "the ", gate)
        await send(pilot, "secret")
        await wait_for(pilot, lambda: shown(screen)[-1] == "Click")
        await pilot.press("ctrl+r")
        await wait_for(pilot, lambda: agent.resets == 1)
        await spoken(pilot, screen, "Hello, this is Zoom support.")
        assert shown(screen) == ["Hello, this is Zoom support."]
        assert "secret" not in screen.transcript.as_text()


async def test_the_state_pane_shows_the_last_turn_for_the_operator() -> None:
    app = ChatApp(FakeAgent(reply("Click the arrow.", state=FIX)))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "no sound")
        await spoken(pilot, screen, "Click the arrow.")
        assert "fix audio" not in screen_text(app)
        await pilot.press("ctrl+s")
        await wait_for(pilot, lambda: "fix audio" in screen_text(app))
        assert "report audio" in screen_text(app)
        await pilot.press("ctrl+s")
        await wait_for(pilot, lambda: "fix audio" not in screen_text(app))


async def test_an_agent_without_state_lines_says_so_in_the_pane() -> None:
    app = ChatApp(FakeAgent(opening=reply("Hello.")))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert not screen.query_one(StatePane).traced
        await pilot.press("ctrl+s")
        await wait_for(pilot, lambda: "This agent writes no" in screen_text(app))


async def test_copy_takes_the_last_reply() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+y")
        assert app.clipboard == "Hello, this is Zoom support."


async def test_export_without_a_writable_folder_says_what_to_do() -> None:
    app = ChatApp(FakeAgent(export_folder=None))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+e")
        await wait_for(pilot, lambda: "--export-to" in screen_text(app))


async def test_export_writes_the_transcript(tmp_path: Path) -> None:
    app = ChatApp(FakeAgent(export_folder=tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+e")
        await wait_for(pilot, lambda: len(list(tmp_path.glob("transcript-*.txt"))) == 1)
    (path,) = tmp_path.glob("transcript-*.txt")
    assert "Agent: Hello, this is Zoom support." in path.read_text()
    assert "State:" not in path.read_text()


async def test_export_to_a_folder_that_cannot_be_written_is_a_notice(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    app = ChatApp(FakeAgent(export_folder=blocked))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+e")
        await wait_for(pilot, lambda: "cannot write" in screen_text(app))


async def test_an_ended_conversation_offers_a_new_one() -> None:
    agent = FakeAgent(reply("Goodbye.", ended=True))
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "works")
        await spoken(pilot, screen, ENDED)
        assert screen.query_one(Composer).placeholder == ENDED_PLACEHOLDER
        await pilot.press("enter")
        await wait_for(pilot, lambda: agent.resets == 1)
        await spoken(pilot, screen, "Hello, this is Zoom support.")


async def test_enter_on_nothing_sends_nothing() -> None:
    agent = FakeAgent()
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("enter", "space", "enter", "o", "k", "enter")
        await spoken(pilot, screen, "I see.")
        assert agent.heard == ["ok"]
        assert agent.resets == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("llama_decode failed", hint="use Q8_0"), "next: use Q8_0"),
        (RuntimeError("segment lost"), "RuntimeError: segment lost"),
    ],
)
async def test_a_failing_engine_shows_a_banner_and_the_chat_goes_on(
    error: Exception, message: str
) -> None:
    app = ChatApp(FakeAgent((Piece("Click "), error), reply("Better now.")))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "no sound")
        await wait_for(pilot, lambda: not screen.busy and screen.query_one("#banner").display)
        await wait_for(pilot, lambda: message in screen_text(app))
        await wait_for(pilot, lambda: "Agent (broken off)" in screen_text(app))
        await send(pilot, "again")
        await spoken(pilot, screen, "Better now.")
        assert not screen.query_one("#banner").display


async def test_notices_of_the_session_reach_the_user() -> None:
    app = ChatApp(FakeAgent(reply("Yes.", notices=("Three exchanges were dropped.",))))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "x")
        await spoken(pilot, screen, "Three exchanges were dropped.")


async def test_warnings_come_before_the_first_word() -> None:
    agent = FakeAgent()
    agent.warnings = ("This agent is not signed.",)
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert shown(screen)[0] == "This agent is not signed."


async def test_markup_and_escapes_in_a_reply_are_plain_text() -> None:
    app = ChatApp(FakeAgent(reply("[bold]x[/bold] \x1b[31mred [@click=app.quit]y[/]")))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await send(pilot, "x")
        await wait_for(
            pilot, lambda: "[bold]x[/bold] red [@click=app.quit]y[/]" in screen_text(app)
        )


async def test_status_shows_speed_and_seal_when_the_reply_is_complete() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        line = status_line(screen.query_one(StatusBar).status).plain
        assert line == (
            "Q8_0 · 112 tokens/s · first 47 ms · sealed: descriptors, landlock, seccomp"
        )
        await wait_for(pilot, lambda: line in screen_text(app))


async def test_a_guard_that_is_off_is_said_twice_on_the_screen() -> None:
    app = ChatApp(FakeAgent(seal=Seal()))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await wait_for(pilot, lambda: "NOT SEALED: guard off" in screen_text(app))
        assert "not sealed: the guard is off" in screen_text(app)


async def test_scrolled_up_the_screen_stays_while_a_reply_comes(gate: threading.Event) -> None:
    long = " ".join(["word"] * 300)
    agent = FakeAgent(reply(long), reply("Second reply."))
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "a")
        await spoken(pilot, screen, long)
        conversation = screen.conversation
        await wait_for(pilot, lambda: conversation.scroll_y > 0)
        assert conversation.scroll_y == conversation.max_scroll_y  # stuck to the bottom
        hold_at(agent, "reply. ", gate)
        await send(pilot, "b")
        await wait_for(pilot, lambda: shown(screen)[-1] == "Second")
        await pilot.press("pageup")
        await wait_for(pilot, lambda: conversation.scroll_y < conversation.max_scroll_y)
        position = conversation.scroll_y
        gate.set()
        await spoken(pilot, screen, "Second reply.")
        assert conversation.scroll_y == position


async def test_help_lists_the_keys_and_closes_on_escape() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("f1")
        await wait_for(pilot, lambda: "start a new conversation" in screen_text(app))
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, ChatScreen))


async def test_the_title_is_not_read_as_markup() -> None:
    agent = FakeAgent()
    agent.title = "Zoom [red]support[/red]"
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert screen.query_one("#agent-title", Static)
        await wait_for(pilot, lambda: "Zoom [red]support[/red]" in screen_text(app))
