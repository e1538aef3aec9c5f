"""The composer: where the user writes.

Enter sends, Ctrl+J or Shift+Enter starts a new line, a paste never sends. Goes in: keys. Comes
out: `Composer.Submitted`. Does not know the agent.
"""

from dataclasses import dataclass

from textual import events, on
from textual.message import Message
from textual.widgets import TextArea

from subterra.tui.display_text import printable

MAX_CHARACTERS = 4000
"""Longest message; more would push the conversation out of a 2048-token context."""

PLACEHOLDER = "Write a message, Enter sends it"
ENDED_PLACEHOLDER = "The conversation has ended: Enter starts a new one"


class Composer(TextArea):
    """Multi-line input at the bottom of the screen."""

    @dataclass
    class Submitted(Message):
        """The user sent a message; empty when Enter was pressed on nothing."""

        text: str

    class Refused(Message):
        """The user pressed Enter while no message is taken; the text stays."""

    def __init__(self) -> None:
        super().__init__(
            id="composer",
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder=PLACEHOLDER,
            tab_behavior="focus",
        )
        self.accepting = False
        """Whether Enter sends; the screen sets it again when the agent has replied."""

    async def _on_key(self, event: events.Key) -> None:
        """Send on Enter.

        Not a binding with priority: that would overtake the keys typed just before it.
        """
        if event.key == "enter":
            self.submit()
        elif event.key in ("shift+enter", "ctrl+j"):
            self.insert("\n")
        else:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()

    def submit(self) -> None:
        """Send at once, so that keys typed behind Enter belong to the next message."""
        if not self.accepting:
            self.post_message(self.Refused())
            return
        text = self.text.strip()
        self.load_text("")
        self.accepting = not text
        self.post_message(self.Submitted(text))

    def action_copy(self) -> None:
        """Copy the selection; with none, say how to quit, as Ctrl+C users expect."""
        if self.selected_text:
            super().action_copy()
        elif selected := self.screen.get_selected_text():
            self.app.copy_to_clipboard(selected)
        else:
            self.app.action_help_quit()

    async def _on_paste(self, event: events.Paste) -> None:
        """Insert a paste as text, without control characters and within the limit."""
        event.prevent_default()
        event.stop()
        self.insert(printable(event.text))

    @on(TextArea.Changed)
    def _keep_within_limit(self) -> None:
        if len(self.text) > MAX_CHARACTERS:
            self.text = self.text[:MAX_CHARACTERS]
            self.move_cursor(self.document.end)
            self.notify(f"A message has at most {MAX_CHARACTERS} characters.", severity="warning")
