"""What an agent tells its listener while it replies.

Goes in: nothing. Comes out: the types that agent, screen and plain mode share. Knows neither
Textual nor the runtime.

    >>> events = [Piece("Hel"), Piece("lo."), Done(tokens=2)]
    >>> "".join(event.text for event in events if isinstance(event, Piece))
    'Hello.'
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Piece:
    """The next visible part of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class State:
    """Where the conversation stands; the agent writes it before a traced reply."""

    line: str
    """The state line as the model wrote it."""
    node: str = ""
    """Empty when the line is malformed."""
    intents: tuple[str, ...] = ()
    slots: tuple[tuple[str, str | None], ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is complete, or was stopped."""

    tokens: int
    first_token_ms: float | None = None
    """From the start of the turn to the first visible piece."""
    tokens_per_s: float | None = None
    cancelled: bool = False
    ended: bool = False
    """The conversation has reached a terminal node."""
    notices: tuple[str, ...] = field(default=())
    """What the user should know, such as turns dropped from a full context."""


Event = Piece | State | Done


def coalesce(
    events: Iterator[Event], interval_s: float, clock: Callable[[], float]
) -> Iterator[Event]:
    """Join pieces that come within `interval_s` of each other, so that a screen is not flooded.

    The first piece passes at once; no text waits longer than until the next event.
    """
    waiting = ""
    last = -interval_s
    for event in events:
        if not isinstance(event, Piece):
            if waiting:
                yield Piece(waiting)
            waiting = ""
            yield event
            continue
        waiting += event.text
        now = clock()
        if now - last >= interval_s:
            yield Piece(waiting)
            waiting, last = "", now
    if waiting:
        yield Piece(waiting)
