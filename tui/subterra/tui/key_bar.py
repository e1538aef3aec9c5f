"""The bottom line: what each key does; a click on a label does the same.

Goes in: the screen's bindings. Comes out: one line that fits 80 columns.
"""

from collections.abc import Iterable

from textual.binding import Binding
from textual.content import Content
from textual.style import Style
from textual.widgets import Static

GLOBAL_KEYS = (("^Q", "Quit", "app.quit"), ("^P", "Commands", "app.command_palette"))


def short_key(key: str) -> str:
    """Write a key in as few columns as terminals do.

    >>> short_key("ctrl+r")
    '^R'
    """
    return {"escape": "Esc"}.get(key) or key.replace("ctrl+", "^").upper()


def key_line(bindings: Iterable[Binding]) -> Content:
    """Compose the line from the bindings that are shown."""
    entries = [(short_key(b.key), b.description, f"screen.{b.action}") for b in bindings if b.show]
    return Content("  ").join(
        Content.assemble((key, "bold $accent"), " ", (label, Style.from_meta({"@click": action})))
        for key, label, action in [*entries, *GLOBAL_KEYS]
    )


class KeyBar(Static):
    """One line of keys."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        super().__init__(key_line(bindings))
