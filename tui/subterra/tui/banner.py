"""The banner: what went wrong and what to do next, in place of a crash.

Goes in: an exception. Comes out: two lines above the conversation.
"""

from textual.widgets import Static

from subterra.runtime.errors import SubterraError
from subterra.tui.display_text import one_line

NEXT = "Ctrl+R starts a new conversation"


def failure_text(error: Exception) -> str:
    """Say what happened and what next, in our own words where there are any."""
    if isinstance(error, SubterraError):
        return f"{one_line(str(error))}\nnext: {one_line(error.hint) or NEXT}"
    what = one_line(str(error))
    return f"The engine failed ({type(error).__name__}{': ' if what else ''}{what})\nnext: {NEXT}"


class Banner(Static):
    """Hidden until something fails."""

    def __init__(self) -> None:
        super().__init__("", id="banner", markup=False)

    def show(self, text: str) -> None:
        """Say it."""
        self.update(text)
        self.display = True

    def hide(self) -> None:
        """Take it away."""
        self.display = False
