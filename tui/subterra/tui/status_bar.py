"""The status bar: variant, speed, and what the guard has closed.

Goes in: a `Status` and the columns there are. Comes out: one line. Pure but for the small widget
at the end.

    >>> status_line(Status("Q8_0", Seal(("landlock", "seccomp")))).plain
    'Q8_0 · sealed: landlock, seccomp'
"""

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.visual import VisualType
from textual.widget import Widget

from subterra.tui.seal import Seal

NO_SEAL = Seal()
SEPARATOR = " · "


@dataclass(frozen=True, slots=True)
class Status:
    """What the bar shows."""

    variant: str
    seal: Seal = NO_SEAL
    tokens_per_s: float | None = None
    first_token_ms: float | None = None
    activity: str = ""
    """What is going on now, such as `replying`."""


def status_line(status: Status, width: int | None = None) -> Content:
    """Compose the line; what was not measured is left out, the seal is shortened before it is cut.

    Args:
        status: what to show.
        width: columns there are; unlimited by default.
    """
    seals = [_seal(status.seal, status.seal.full), _seal(status.seal, status.seal.counted)]
    lines = [Content(SEPARATOR).join([*_speed(status), seal]) for seal in seals]
    lines.append(Content(SEPARATOR).join([*_speed(status)[:1], seals[-1]]))
    return next((line for line in lines if width is None or line.cell_length <= width), lines[-1])


def _speed(status: Status) -> list[Content]:
    parts = [Content.styled(status.variant, "bold $foreground")]
    if status.activity:
        parts.append(Content.styled(status.activity, "$accent"))
    if status.tokens_per_s is not None:
        parts.append(
            Content(f"{status.tokens_per_s:.{0 if status.tokens_per_s >= 10 else 1}f} tokens/s")
        )
    if status.first_token_ms is not None:
        parts.append(Content(f"first {status.first_token_ms:.0f} ms"))
    return parts


def _seal(seal: Seal, text: str) -> Content:
    return Content.styled(text, "$success" if seal.whole else "bold $background on $warning")


class StatusBar(Widget):
    """One line that repaints when its status changes."""

    status: reactive[Status] = reactive(Status(""))

    def __init__(self, status: Status) -> None:
        super().__init__(id="status-bar")
        self.set_reactive(StatusBar.status, status)

    def render(self) -> VisualType:
        """Draw the line."""
        return status_line(self.status, self.content_size.width)
