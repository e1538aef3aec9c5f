"""The chat's screen: conversation, state pane, composer, status.

Goes in: an `Agent`. Comes out: a conversation on the screen. The agent works in a thread; its
events come back as messages, numbered by turn, so that a turn given up cannot write into the next.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message as TextualMessage
from textual.screen import Screen

from subterra.runtime.errors import SubterraError
from subterra.tui.agent import Agent
from subterra.tui.banner import Banner, failure_text
from subterra.tui.composer import ENDED_PLACEHOLDER, PLACEHOLDER, Composer
from subterra.tui.conversation import Conversation, Message
from subterra.tui.display_text import one_line, printable
from subterra.tui.events import Done, Event, Piece, State, coalesce
from subterra.tui.help_screen import HelpScreen
from subterra.tui.key_bar import KeyBar
from subterra.tui.state_pane import StatePane
from subterra.tui.status_bar import Status, StatusBar
from subterra.tui.title_bar import TitleBar
from subterra.tui.transcript import Transcript

FRAME_S = 0.03
"""Pieces closer than this reach the screen together; a tenth of what people notice as a delay."""

ENDED = "The conversation has ended. Enter starts a new one, or write on."
BUSY = "The agent is still replying; Esc stops it."
NO_FOLDER = (
    "The guard left no folder to write to. Start again with --export-to FOLDER to export here."
)


class ChatScreen(Screen[None]):
    """Everything between one agent and one user."""

    AUTO_FOCUS = "Composer"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Stop", tooltip="stop the reply"),
        Binding("ctrl+r", "reset", "New", tooltip="start a new conversation", priority=True),
        Binding("ctrl+s", "state", "State", tooltip="show or hide the state", priority=True),
        Binding("ctrl+y", "copy_reply", "Copy", tooltip="copy the last reply", priority=True),
        Binding("ctrl+e", "export", "Export", tooltip="export the transcript", priority=True),
        Binding("f1", "help", "Help", tooltip="show this help", priority=True),
        Binding("pageup", "scroll(-1)", show=False, priority=True),
        Binding("pagedown", "scroll(1)", show=False, priority=True),
    ]

    @dataclass
    class Heard(TextualMessage):
        """An event of the agent's turn; None when the turn is over."""

        turn: int
        event: Event | None

    @dataclass
    class Failed(TextualMessage):
        """The agent's turn broke."""

        turn: int
        error: Exception

    def __init__(self, agent: Agent, *, show_state: bool = False) -> None:
        super().__init__()
        self.agent = agent
        self._show_state = show_state
        self.transcript = Transcript(agent.title)
        self.busy = False
        self.ended = False
        self._turn = 0
        self._given_up = 0
        self._one_at_a_time = threading.Lock()
        self._reply: Message | None = None
        self._state: State | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        seal = self.agent.seal
        yield TitleBar(one_line(self.agent.title), seal)
        yield Banner()
        with Horizontal(id="middle"):
            yield Conversation()
            yield StatePane(shown=self._show_state)
        yield Composer()
        yield StatusBar(Status(self.agent.variant, seal))
        yield KeyBar(key for key in self.BINDINGS if isinstance(key, Binding))

    def on_mount(self) -> None:
        """Let the agent open the conversation."""
        for warning in self.agent.warnings:
            self._note(warning)
        self._start(self.agent.open)

    # A turn: started here, run in a thread, heard here.

    def _start(self, talk: Callable[[], Iterator[Event]]) -> None:
        self._turn += 1
        self.busy, self.ended, self._state = True, False, None
        self.query_one(Banner).hide()
        self._composer.placeholder = PLACEHOLDER
        self._composer.accepting = False
        self._set_status(activity="replying")
        self._converse(self._turn, talk)

    @work(thread=True, exclusive=True, group="agent")
    def _converse(self, turn: int, talk: Callable[[], Iterator[Event]]) -> None:
        """Run one turn in a thread; touches no widget.

        `exclusive` only stops waiting for an older thread, so the lock keeps two of them apart.
        """
        with self._one_at_a_time:
            if turn != self._turn:
                return
            try:
                for event in coalesce(talk(), FRAME_S, time.monotonic):
                    if turn <= self._given_up:
                        self.agent.cancel()  # again: the turn may have begun after the first time
                    self.post_message(self.Heard(turn, event))
                self.post_message(self.Heard(turn, None))
            except Exception as error:  # noqa: BLE001 - a broken engine becomes a banner
                self.post_message(self.Failed(turn, error))

    @on(Heard)
    def _on_heard(self, message: Heard) -> None:
        if message.turn != self._turn:
            return
        match message.event:
            case State() as state:
                self._state = state
                self.query_one(StatePane).record(state)
            case Piece(text=text):
                self._stream(text)
            case Done() as done:
                self._finish(done)
            case None:
                if self.busy:
                    self._finish(Done(tokens=0))

    def _stream(self, text: str) -> None:
        if self._reply is None:
            self._reply = self.conversation.add("agent", streaming=True)
            self._set_status(activity="replying")
        self._reply.append(printable(text))

    def _finish(self, done: Done) -> None:
        self.busy, self.ended = False, done.ended
        self._composer.accepting = True
        self._close_reply("stopped" if done.cancelled else "")
        for notice in done.notices:
            self._note(notice)
        if done.ended:
            self._note(ENDED)
            self._composer.placeholder = ENDED_PLACEHOLDER
        pane = self.query_one(StatePane)
        pane.traced = self._state is not None or pane.state is not None
        self._set_status(
            activity="", tokens_per_s=done.tokens_per_s, first_token_ms=done.first_token_ms
        )

    def _close_reply(self, note: str) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.finish(note)
            state = one_line(self._state.line) if self._state else ""
            self.transcript.add("agent", reply.text.strip(), state, note)

    @on(Failed)
    def _on_failed(self, message: Failed) -> None:
        if message.turn != self._turn:
            return
        self.busy = False
        self._composer.accepting = True
        self._close_reply("broken off")
        self._set_status(activity="")
        self.query_one(Banner).show(failure_text(message.error))

    # What the user does.

    @on(Composer.Submitted)
    def _on_submitted(self, message: Composer.Submitted) -> None:
        if text := printable(message.text):
            self.conversation.add("user", text)
            self.transcript.add("user", text)
            self._start(lambda: self.agent.say(text))
        elif self.ended:
            self.action_reset()

    @on(Composer.Refused)
    def _on_refused(self) -> None:
        self.notify(BUSY, severity="warning")

    def action_cancel(self) -> None:
        """Stop the reply; the agent notices before its next token."""
        if self.busy:
            self.give_up()
            self._set_status(activity="stopping")

    def give_up(self) -> None:
        """Have the thread of this turn end soon."""
        self._given_up = self._turn
        self.agent.cancel()

    def action_reset(self) -> None:
        """Give up the conversation and start a new one."""
        self.give_up()
        self._reply = None
        self.conversation.clear()
        self.query_one(StatePane).clear()
        self.transcript = Transcript(self.agent.title)
        self._set_status(tokens_per_s=None, first_token_ms=None)
        self._start(self._open_anew)

    def _open_anew(self) -> Iterator[Event]:
        self.agent.reset()
        return self.agent.open()

    def action_state(self) -> None:
        """Show or hide the operator's view."""
        pane = self.query_one(StatePane)
        pane.display = not pane.display

    def action_copy_reply(self) -> None:
        """Copy the newest reply through the terminal."""
        reply = self.transcript.last_reply
        if reply:
            self.app.copy_to_clipboard(reply)
            self.notify("The last reply is copied.")
        else:
            self.notify("There is no reply to copy yet.", severity="warning")

    def action_export(self) -> None:
        """Write the transcript where the guard allows it; with states when they are shown."""
        folder = self.agent.export_folder
        if folder is None:
            self.notify(NO_FOLDER, severity="warning")
            return
        self._write_transcript(self.transcript.copy(), states=self.query_one(StatePane).display)

    @work(thread=True, group="export")
    def _write_transcript(self, transcript: Transcript, *, states: bool) -> None:
        folder = self.agent.export_folder
        if folder is None:
            return
        try:
            path = transcript.export(folder, datetime.now(), states=states)
        except SubterraError as error:
            self.app.call_from_thread(self.notify, f"{error}; {error.hint}", severity="error")
        else:
            self.app.call_from_thread(self.notify, f"The transcript is in {path}")

    def action_help(self) -> None:
        """Explain keys and seal."""
        shown = [b for b in self.BINDINGS if isinstance(b, Binding) and b.show]
        self.app.push_screen(HelpScreen(shown, self.agent.seal))

    def action_scroll(self, pages: int) -> None:
        """Scroll the conversation while the composer keeps the focus."""
        if pages < 0:
            self.conversation.scroll_page_up(animate=False)
        else:
            self.conversation.scroll_page_down(animate=False)

    # Parts.

    @property
    def conversation(self) -> Conversation:
        """The messages on the screen."""
        return self.query_one(Conversation)

    @property
    def _composer(self) -> Composer:
        return self.query_one(Composer)

    def _note(self, text: str) -> None:
        self.conversation.add("notice", text)
        self.transcript.add("notice", text)

    def _set_status(self, **changes: str | float | None) -> None:
        bar = self.query_one(StatusBar)
        bar.status = replace(bar.status, **changes)  # type: ignore[arg-type]
