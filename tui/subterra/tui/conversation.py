"""The scrolling conversation: one widget a message, newest at the bottom.

Goes in: who speaks and what. Comes out: widgets, a bounded number of them. Does not know the
agent. A message is told apart by its label and its place, not by colour alone.
"""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from subterra.tui.transcript import LABELS, Speaker

MAX_MESSAGES = 200
"""Widgets kept on the screen."""

PRUNE_BY = 50
"""Widgets removed at once, so that pruning is rare."""

EMPTY_STATE = "The agent is getting ready. What you write here stays on this device."

CURSOR = "▍"


def message_label(speaker: Speaker, note: str = "") -> str:
    """Heading of a message: the speaker, and how the turn ended when that needs saying."""
    return f"{LABELS[speaker]} ({note})" if note else LABELS[speaker]


def message_body(text: str, *, streaming: bool) -> str:
    """Text of a message; a block marks where the next words will come."""
    return text.rstrip() + (CURSOR if streaming else "")


class Message(Widget):
    """One turn: label above text. Text is never read as markup."""

    def __init__(self, speaker: Speaker, text: str = "", *, streaming: bool = False) -> None:
        super().__init__(classes=f"-{speaker}")
        self.speaker = speaker
        self.text = text
        self.streaming = streaming
        self._label = Static(message_label(speaker), classes="label", markup=False)
        self._body = Static(classes="body", markup=False)

    def compose(self) -> ComposeResult:
        """Label, then text."""
        yield self._label
        yield self._body

    def on_mount(self) -> None:
        """Show what came before the message was on the screen."""
        self._show()

    def append(self, text: str) -> None:
        """Add words to a reply in progress."""
        self.text += text
        self._show()

    def finish(self, note: str = "") -> None:
        """End the reply; `note` says how when it was not by itself."""
        self.streaming = False
        self._label.update(message_label(self.speaker, note))
        self._show()

    def _show(self) -> None:
        body = message_body(self.text, streaming=self.streaming)
        self._body.update(Content(body or " "))


class Conversation(VerticalScroll, can_focus=False):
    """Messages in order; follows the newest until the user scrolls up."""

    def __init__(self, max_messages: int = MAX_MESSAGES) -> None:
        super().__init__(id="conversation")
        self.max_messages = max_messages
        self.pruned = 0

    def compose(self) -> ComposeResult:
        """Start with the sentence for an empty conversation."""
        yield Static(EMPTY_STATE, id="empty-state", markup=False)
        yield Static("", id="pruned", markup=False)

    def on_mount(self) -> None:
        """Stick to the bottom from the start."""
        self.anchor()

    @property
    def messages(self) -> list[Message]:
        """Messages on the screen, oldest first."""
        return list(self.query_children(Message))

    def add(self, speaker: Speaker, text: str = "", *, streaming: bool = False) -> Message:
        """Append a message and scroll to it."""
        self.query_one("#empty-state").display = False
        message = Message(speaker, text, streaming=streaming)
        self.mount(message)
        self._prune()
        self.anchor()
        return message

    def clear(self) -> None:
        """Remove every message, as for a new customer."""
        self.pruned = 0
        self.query_one("#pruned").display = False
        self.query_one("#empty-state").display = True
        self.query_children(Message).remove()

    def _prune(self) -> None:
        messages = self.messages
        if len(messages) <= self.max_messages:
            return
        old = messages[: len(messages) - self.max_messages + min(PRUNE_BY, self.max_messages // 2)]
        self.pruned += len(old)
        notice = self.query_one("#pruned", Static)
        notice.update(f"{self.pruned} earlier messages are no longer shown.")
        notice.display = True
        self.remove_children(old)
