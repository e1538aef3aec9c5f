"""The top line: whose agent this is, and whether it is sealed.

Goes in: title and seal. Comes out: one line.
"""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from subterra.tui.seal import Seal


class TitleBar(Horizontal):
    """Title to the left, seal to the right."""

    def __init__(self, title: str, seal: Seal) -> None:
        super().__init__(id="title-bar")
        self._title = title
        self._seal = seal

    def compose(self) -> ComposeResult:
        """Two texts."""
        yield Static(self._title, id="agent-title", markup=False)
        look = "-sealed" if self._seal.whole else "-unsealed"
        yield Static(self._seal.short, id="seal", classes=look, markup=False)
