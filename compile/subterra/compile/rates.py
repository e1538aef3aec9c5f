"""Rates with their uncertainty, and the paired test between two of them.

Goes in: counts. Comes out: a Wilson 95 % interval, or an exact McNemar p value.
Does not know what was counted.

    >>> Rate(197, 200).to_json()
    {'value': 0.985, 'n': 200, 'low': 0.957, 'high': 0.995}
"""

import math
from dataclasses import dataclass

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

DIGITS = 3
"""Decimal places of a rate in JSON."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`successes` out of `n` independent trials.

    Raises:
        ValueError: the counts are negative or more trials succeeded than were made.
    """

    successes: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise ValueError(f"{self.successes} successes of {self.n} trials")

    @property
    def value(self) -> float:
        """Share of successes; NaN when nothing was tried."""
        return self.successes / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return wilson(self.successes, self.n)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return wilson(self.successes, self.n)[1]

    def to_json(self) -> dict[str, float | int | None]:
        """Value, n and interval, rounded; the value of an empty rate is null."""
        low, high = wilson(self.successes, self.n)
        value = round(self.value, DIGITS) if self.n else None
        return {"value": value, "n": self.n, "low": round(low, DIGITS), "high": round(high, DIGITS)}

    def __str__(self) -> str:
        """Percentages as text, for people."""
        if not self.n:
            return "none tried"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}, n = {self.n})"


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927); (0, 1) when nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p value for paired outcomes (McNemar 1947, binomial form).

    Args:
        b: pairs in which only the first succeeded.
        c: pairs in which only the second succeeded.
    """
    trials = b + c
    tail = sum(math.comb(trials, k) for k in range(min(b, c) + 1))
    return min(1.0, float(2 * tail / 2**trials))


def paired_difference(b: int, c: int, n: int, z: float = Z95) -> tuple[float, float, float]:
    """Second share minus first share of paired outcomes, with its interval.

    The interval is Wald's with half an observation added to each of the four cells (Agresti and Min
    2005), which keeps its coverage at few or no flips.

    Args:
        b: pairs in which only the first succeeded.
        c: pairs in which only the second succeeded.
        n: all pairs.
        z: quantile of the normal distribution.

    Returns:
        The difference, the lower and the upper end; (0, -1, 1) without pairs.
    """
    if n == 0:
        return 0.0, -1.0, 1.0
    size, first, second = n + 2, b + 0.5, c + 0.5
    centre = (second - first) / size
    half = z * math.sqrt(first + second - (second - first) ** 2 / size) / size
    return (c - b) / n, max(-1.0, centre - half), min(1.0, centre + half)
