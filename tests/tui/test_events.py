from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from subterra.tui.events import Done, Event, Piece, State, coalesce


def ticking(*times: float) -> "Ticks":
    return Ticks(list(times))


class Ticks:
    """A clock that says the given times, one a call."""

    def __init__(self, times: list[float]) -> None:
        self._times = times

    def __call__(self) -> float:
        return self._times.pop(0)


def test_the_first_piece_passes_at_once_and_close_ones_are_joined() -> None:
    events: Iterator[Event] = iter([Piece("a"), Piece("b"), Piece("c"), Piece("d"), Done(4)])
    joined = list(coalesce(events, 0.03, ticking(0.0, 0.01, 0.02, 0.05)))
    assert joined == [Piece("a"), Piece("bcd"), Done(4)]


def test_nothing_overtakes_and_nothing_is_lost_at_the_end() -> None:
    events: Iterator[Event] = iter([Piece("a"), Piece("b"), State("s"), Piece("c")])
    joined = list(coalesce(events, 1.0, ticking(0.0, 0.1, 0.2)))
    assert joined == [Piece("a"), Piece("b"), State("s"), Piece("c")]


@given(st.lists(st.text().map(Piece)), st.floats(0, 1))
def test_joining_keeps_the_text(pieces: list[Event], interval: float) -> None:
    clock = iter(range(1000))
    joined = coalesce(iter(pieces), interval * 5, lambda: float(next(clock)))
    assert "".join(e.text for e in joined if isinstance(e, Piece)) == "".join(
        e.text for e in pieces if isinstance(e, Piece)
    )
