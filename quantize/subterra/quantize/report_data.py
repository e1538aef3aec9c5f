"""What a report says: one row for each variant, the controls, and which variant to ship.

Goes in: measurements. Comes out: a `Report` and its JSON document. Does not measure, and does not
know Markdown or HTML.

    >>> recommend(rows, reference="F16").name
    'Q8_0'
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from subterra.compile.rates import Rate, mcnemar_exact
from subterra.quantize.divergence import Divergence
from subterra.quantize.quantize import Record
from subterra.quantize.speed import Speed

SCHEMA_VERSION = 1

KLD_MEAN_LIMIT = 0.02
"""Nats. On llama.cpp's Llama-3-8B scoreboard Q5_K_M has 0.011, Q4_K_M 0.028 to 0.031."""

KLD_P99_LIMIT = 0.2
"""Nats; ten times the mean, so that no cluster of tokens goes wrong unseen."""

SUCCESS_MARGIN = 0.02
"""Share of conversations that a variant may lose against the reference variant."""

SIGNIFICANCE = 0.05
"""McNemar p below which a loss of conversations is no accident."""

POOR_SUCCESS = 0.85
"""Below it the agent is at fault, whatever the variant."""

FALLBACK = "Q8_0"


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Conversations rolled out on one variant; the same scenarios in the same order for all."""

    success: list[bool]
    rates: dict[str, Rate] = field(default_factory=dict)
    """Other rates: hub_accuracy, terminal_accuracy, ..."""
    constrained: bool = False
    """Whether state lines were held to the procedure's transitions."""


Scorer = Callable[[str, str, Path], ScoreSummary | None]
"""(variant name, engine name, path) -> scores; None: this variant is not scored."""


@dataclass(frozen=True, slots=True)
class Flips:
    """Scenarios whose outcome differs between the reference variant and this one (2407.09141)."""

    right_to_wrong: int
    wrong_to_right: int
    n: int

    @property
    def p(self) -> float:
        """Exact McNemar p: how often chance alone would be as lopsided."""
        return mcnemar_exact(self.right_to_wrong, self.wrong_to_right)

    def to_json(self) -> dict[str, float | int]:
        """Counts and p."""
        return {**asdict(self), "p": float(f"{self.p:.3g}")}


@dataclass(frozen=True, slots=True)
class Row:
    """One variant."""

    record: Record
    divergence: Divergence
    speed: Speed
    scores: ScoreSummary | None = None
    flips: Flips | None = None

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.record.name

    @property
    def success(self) -> Rate | None:
        """Share of conversations that went right; None when not measured."""
        if self.scores is None:
            return None
        return Rate(sum(self.scores.success), len(self.scores.success))

    def to_json(self) -> dict[str, object]:
        """Keys that other tools rely on, then the details."""
        rates = self.scores.rates if self.scores else {}
        return {
            "name": self.name,
            "engine": self.record.engine,
            "quantization": self.record.quantization,
            "bytes": self.record.bytes,
            "bits_per_weight": self.record.bits_per_weight,
            **self.divergence.to_json(),
            "success": self.success.to_json() if self.success else None,
            "flips": self.flips.to_json() if self.flips else None,
            "rates": {name: rate.to_json() for name, rate in rates.items()},
            **asdict(self.speed),
        }


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which variant to ship, and the reason in one or two sentences."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed."""

    title: str
    date: str
    reference: Mapping[str, object]
    control: Divergence
    """The reference computed twice: shows the noise floor of the measurement."""
    rows: Sequence[Row]
    flips_against: str | None
    """Variant that flips are counted against; None when nothing was scored."""
    text: Mapping[str, object]
    machine: Mapping[str, object]
    recommendation: Recommendation

    @property
    def constrained(self) -> bool | None:
        """Whether conversations were held to the procedure's transitions; None: none was scored."""
        return next((row.scores.constrained for row in self.rows if row.scores), None)

    def to_json(self) -> dict[str, object]:
        """The document that `--json` prints and `report.json` keeps."""
        return {
            "schema_version": SCHEMA_VERSION,
            "title": self.title,
            "date": self.date,
            "recommendation": asdict(self.recommendation),
            "reference": dict(self.reference),
            "control": {"name": "merged against itself", **self.control.to_json()},
            "variants": [row.to_json() for row in self.rows],
            "flips_against": self.flips_against,
            "constrained": self.constrained,
            "text": dict(self.text),
            "machine": dict(self.machine),
            "limits": {
                "kld_mean": KLD_MEAN_LIMIT,
                "kld_p99": KLD_P99_LIMIT,
                "success_margin": SUCCESS_MARGIN,
                "mcnemar_p": SIGNIFICANCE,
            },
        }


def count_flips(reference: Sequence[bool], variant: Sequence[bool]) -> Flips:
    """Compare outcomes scenario by scenario, as far as both were scored.

    Scenarios come in the same order for every variant, so a shorter run is a prefix of a longer.
    """
    pairs = list(zip(reference, variant, strict=False))
    return Flips(
        right_to_wrong=sum(before and not after for before, after in pairs),
        wrong_to_right=sum(after and not before for before, after in pairs),
        n=len(pairs),
    )


def failings(row: Row, reference: Rate | None) -> list[str]:
    """Reasons against shipping the variant; empty when it holds."""
    found = []
    mean, p99 = row.divergence.kld["mean"], row.divergence.kld["p99"]
    if mean > KLD_MEAN_LIMIT:
        found.append(f"mean KLD {mean:.2g} is above {KLD_MEAN_LIMIT:g}")
    if p99 > KLD_P99_LIMIT:
        found.append(f"99th percentile of KLD {p99:.2g} is above {KLD_P99_LIMIT:g}")
    if row.success is not None and reference is not None:
        lost = reference.value - row.success.value
        if lost > SUCCESS_MARGIN:
            found.append(f"success falls by {100 * lost:.1f} points")
        elif row.flips and _worse(row.flips):
            found.append(f"success falls (McNemar p = {row.flips.p:.2g})")
    return found


def recommend(rows: Sequence[Row], reference: str | None) -> Recommendation:
    """Choose the smallest variant that holds, else Q8_0.

    Args:
        rows: the variants, at least one.
        reference: name of the variant whose success is the measure; None: nothing was scored.
    """
    measure = next((row.success for row in rows if row.name == reference), None)
    by_size = sorted(rows, key=lambda row: row.record.bytes)
    rejected: list[str] = []
    for row in by_size:
        reasons = failings(row, measure)
        if not reasons:
            praise = _praise(row, measure, reference)
            return Recommendation(row.name, " ".join([*_warning(measure), praise, *rejected]))
        rejected.append(f"{row.name} is smaller, but {'; '.join(reasons)}.")
    fallback = next((row for row in rows if row.name == FALLBACK), by_size[-1])
    faults = "; ".join(failings(fallback, measure))
    return Recommendation(
        fallback.name, f"No variant holds, so {fallback.name} is the default although {faults}."
    )


def _warning(measure: Rate | None) -> list[str]:
    if measure is None or not measure.n or measure.value >= POOR_SUCCESS:
        return []
    return [
        f"The agent itself succeeds in only {measure.value:.1%}: train it further before shipping."
    ]


def _worse(flips: Flips) -> bool:
    return flips.right_to_wrong > flips.wrong_to_right and flips.p < SIGNIFICANCE


def _praise(row: Row, measure: Rate | None, reference: str | None) -> str:
    kld = row.divergence.kld
    text = f"Smallest variant that holds: KLD mean {kld['mean']:.2g}, 99 % {kld['p99']:.2g}"
    if row.success is None or measure is None:
        return f"{text}; success was not measured, so divergence alone decides."
    against = "" if row.name == reference else f" against {measure.value:.1%} for {reference}"
    return f"{text}; success {row.success.value:.1%}{against}."
