"""Progress of a long run: step, loss, tokens/s, time left; one line, rewritten in a terminal."""

import sys
import time
from collections.abc import Callable

LINE_SECONDS = 20.0
"""Between lines where the output is no terminal."""
SMOOTHING = 0.98


class Progress:
    """Counts tokens and shows a line."""

    def __init__(self, steps: int, started: int, report: Callable[[str], None]) -> None:
        self._steps, self._started, self._report = steps, started, report
        self._begin = self._shown = time.monotonic()
        self._tokens = 0
        self._loss: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Mean since the start of this process."""
        return self._tokens / max(time.monotonic() - self._begin, 1e-9)

    def step(self, step: int, tokens: int, loss: float) -> None:
        """Count one step; show a line now and then."""
        self._tokens += tokens
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        now = time.monotonic()
        live = sys.stderr.isatty()
        if now - self._shown < (0.5 if live else LINE_SECONDS) and step != self._steps:
            return
        self._shown = now
        done = step - self._started
        left = (now - self._begin) / done * (self._steps - step)
        line = (
            f"step {step}/{self._steps}  loss {self._loss:.4f}  "
            f"{self.tokens_per_second:.0f} tokens/s  {_clock(left)} left"
        )
        if live:
            print(f"\r\x1b[K{line}", end="\n" if step == self._steps else "", file=sys.stderr)
        else:
            self._report(line)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
