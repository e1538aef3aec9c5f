"""An agent without a model: it plays fixed replies, so that tests see only the chat around it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from textual.pilot import Pilot

from subterra.tui.app import ChatApp
from subterra.tui.chat_screen import ChatScreen
from subterra.tui.events import Done, Event, Piece, State
from subterra.tui.seal import Seal

SEALED = Seal(("descriptors", "landlock", "seccomp"))
WELCOME = State("start > welcome | ?", "welcome", ("start",), (("issue", None),))
OPENING: tuple[Event | Exception, ...] = (
    WELCOME,
    Piece("Hello, this is "),
    Piece("Zoom support."),
    Done(tokens=6, first_token_ms=47.2, tokens_per_s=112.4),
)
PATIENCE_S = 20.0
"""For a machine that does other work; a test that passes takes a fraction of it."""


class FakeAgent:
    """Plays one list of events for each turn; an exception in the list is raised."""

    def __init__(
        self,
        *replies: tuple[Event | Exception, ...],
        seal: Seal = SEALED,
        export_folder: Path | None = None,
        opening: tuple[Event | Exception, ...] = OPENING,
    ) -> None:
        self.title = "Zoom support"
        self.variant = "Q8_0"
        self.seal = seal
        self.warnings: tuple[str, ...] = ()
        self.export_folder = export_folder
        self.heard: list[str] = []
        self.resets = 0
        self.cancelled = False
        self.before_piece: Callable[[str], None] = lambda _text: None
        self._opening = opening
        self._replies = list(replies)

    def open(self) -> Iterator[Event]:
        return self._play(self._opening)

    def say(self, text: str) -> Iterator[Event]:
        self.heard.append(text)
        return self._play(self._replies.pop(0) if self._replies else reply("I see."))

    def cancel(self) -> None:
        self.cancelled = True

    def reset(self) -> None:
        self.resets += 1

    def _play(self, events: tuple[Event | Exception, ...]) -> Iterator[Event]:
        self.cancelled = False
        for event in events:
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Piece):
                self.before_piece(event.text)
            if self.cancelled:
                yield Done(tokens=1, cancelled=True)
                return
            yield event


def reply(
    text: str, *, ended: bool = False, state: State | None = None, notices: tuple[str, ...] = ()
) -> tuple[Event | Exception, ...]:
    """Events of a whole reply, one piece a word."""
    head = (state,) if state else ()
    words = tuple(Piece(word + " ") for word in text.split(" "))
    return (*head, *words, Done(len(words), 48.0, 110.0, ended=ended, notices=notices))


async def wait_for(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Let the app work until the condition holds; one pause is not enough with threads."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the screen never came to the expected state"
        await asyncio.sleep(0.01)
        await pilot.pause()


async def opened(pilot: Pilot[None]) -> ChatScreen:
    """Wait until the agent's opening turn is complete."""
    app = pilot.app
    assert isinstance(app, ChatApp)
    await wait_for(pilot, lambda: isinstance(app.screen, ChatScreen) and not app.screen.busy)
    screen = app.screen
    assert isinstance(screen, ChatScreen)
    return screen


async def send(pilot: Pilot[None], text: str) -> None:
    """Type a message and press Enter."""
    await pilot.press(*[{" ": "space"}.get(letter, letter) for letter in text], "enter")


async def spoken(pilot: Pilot[None], screen: ChatScreen, text: str) -> None:
    """Wait until the newest message is `text` and the agent is silent."""
    await wait_for(pilot, lambda: not screen.busy and bool(shown(screen)))
    await wait_for(pilot, lambda: shown(screen)[-1] == text)


def shown(screen: ChatScreen) -> list[str]:
    """Texts of the messages on the screen."""
    return [message.text.strip() for message in screen.conversation.messages]


def screen_text(app: ChatApp) -> str:
    """Everything that is on the screen, as lines of text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    assert len(lines) == height
    assert all(line.cell_length == width for line in lines)
    return "\n".join(line.text for line in lines)
