"""The help: keys, and what the words in the status bar mean.

Goes in: the chat's bindings and its seal. Comes out: a modal screen. Pure but for the small screen
at the end.
"""

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from subterra.tui.seal import Seal

EDITING = (
    ("Enter", "send the message"),
    ("Ctrl+J", "start a new line in the message"),
    ("PageUp, PageDown", "scroll the conversation"),
    ("Ctrl+P", "find a command by name"),
    ("Ctrl+Q", "leave"),
)

SEALED = (
    "Sealed means that the kernel itself keeps this program from the network, from other programs "
    "and from files it does not need. `subterra prove BUNDLE` tries every way out and shows it."
)


def key_name(key: str) -> str:
    """Write a key as people do.

    >>> key_name("ctrl+r")
    'Ctrl+R'
    """
    names = {"escape": "Esc", "pageup": "PageUp", "pagedown": "PageDown"}
    return "+".join(names.get(part, part.capitalize()) for part in key.split("+"))


def help_text(bindings: Iterable[Binding], seal: Seal) -> Content:
    """List keys, then explain the seal."""
    rows = [*EDITING, *((key_name(b.key), b.tooltip or b.description) for b in bindings)]
    width = max(len(key) for key, _ in rows) + 2
    lines = [
        Content.assemble((key.ljust(width), "bold $accent"), description)
        for key, description in rows
    ]
    return Content("\n").join([*lines, Content(""), Content(seal.full), Content(SEALED)])


class HelpScreen(ModalScreen[None]):
    """Help over the conversation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q,enter", "dismiss", "Close", show=False),
    ]

    def __init__(self, bindings: Iterable[Binding], seal: Seal) -> None:
        super().__init__()
        self._text = help_text(bindings, seal)

    def compose(self) -> ComposeResult:
        """One scrolling box."""
        with VerticalScroll(id="help") as box:
            box.border_title = "Help"
            box.border_subtitle = "Esc closes"
            yield Static(self._text)
