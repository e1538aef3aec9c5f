"""Measure every variant of a work folder.

Goes in: records of variants, texts, a scorer, what an earlier run has measured. Comes out: rows,
and the control. Each result is kept as soon as it is there.

    >>> rows, control, against = measure(work, records, texts, None, kept, say=print)
"""

import contextlib
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from subterra.quantize.divergence import Divergence, LogitsAt, ScoredText, at_positions, compare
from subterra.quantize.measured import Measured
from subterra.quantize.quantize import Record
from subterra.quantize.report_data import Flips, Row, Scorer, ScoreSummary, count_flips
from subterra.quantize.speed import PROMPT_TOKENS, Speed, measure_speed
from subterra.quantize.torch_reference import TorchReference
from subterra.quantize.variants import VARIANTS
from subterra.runtime.engine import open_engine
from subterra.runtime.threads import usable_threads

FLIPS_AGAINST = "F16"
"""Variant whose outcomes flips are counted against; rounding to 16 bits loses next to nothing."""

OPEN_BYTES = 4 << 30
"""Model files open at a time in the divergence pass; more are measured in further passes."""

CONTROL_TEXTS = 2
"""Dialogues of which the reference is computed twice."""

CONTROL = "merged"
"""Name under which the control is kept."""

CONTEXT_STEP = 256

Say = Callable[[str], None]


def measure(
    work: Path,
    records: Sequence[Record],
    texts: Sequence[ScoredText],
    scorer: Scorer | None,
    kept: Measured,
    say: Say,
) -> tuple[list[Row], Divergence, str | None]:
    """Measure divergence, speed and success of each variant.

    Returns:
        The rows, the control, and the variant that flips are counted against.

    Raises:
        EngineError: a variant does not load, or gives no finite logits.
        ModelError: the merged checkpoint is damaged.
    """
    speeds = _speeds(work, records, texts, kept, say)  # first: before this process loads torch
    divergences, control = _divergences(work, records, texts, kept, say)
    scores = _scores(work, records, scorer, kept, say)
    against = _reference_name(scores)
    rows = []
    for record in records:
        summary = scores.get(record.name)
        flips: Flips | None = None
        if summary is not None and against is not None:
            flips = count_flips(scores[against].success, summary.success)
        rows.append(Row(record, divergences[record.name], speeds[record.name], summary, flips))
    return rows, control, against


def machine() -> dict[str, object]:
    """Describe the machine without naming it."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_threads(),
        "cores_present": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def _speeds(
    work: Path, records: Sequence[Record], texts: Sequence[ScoredText], kept: Measured, say: Say
) -> dict[str, Speed]:
    prompt = [token for text in texts for token in text.tokens][:PROMPT_TOKENS]
    found = {}
    for record in records:
        speed = kept.get(record.name, "speed", Speed)
        if speed is None:
            speed = measure_speed(record.engine, VARIANTS[record.name].path(work), prompt)
            kept.put(record.name, "speed", speed)
        found[record.name] = speed
        say(
            f"{record.name:<10} {speed.decode_tokens_per_s:6.1f} tokens/s decode, "
            f"{speed.prefill_tokens_per_s:7.1f} prefill, first token {speed.ttft_ms:.0f} ms"
        )
    return found


def _divergences(
    work: Path, records: Sequence[Record], texts: Sequence[ScoredText], kept: Measured, say: Say
) -> tuple[dict[str, Divergence], Divergence]:
    names = (*(record.name for record in records), CONTROL)
    found = {n: d for n in names if (d := kept.get(n, "divergence", Divergence)) is not None}
    missing = [record for record in records if record.name not in found]
    if missing or CONTROL not in found:
        context = max(len(text.tokens) for text in texts) + 1
        context = -(-context // CONTEXT_STEP) * CONTEXT_STEP
        reference = TorchReference(work / "merged", threads=usable_threads())
        for group in _groups(missing):
            with _opened(work, group, context) as variants:
                fresh = compare(
                    reference.logits_at, variants, texts, _progress(variants, len(texts), say)
                )
            _keep(fresh, found, kept)
        if CONTROL not in found:
            again = {CONTROL: reference.logits_at}
            _keep(compare(reference.logits_at, again, texts[:CONTROL_TEXTS]), found, kept)
        reference.close()
    return found, found[CONTROL]


def _keep(fresh: dict[str, Divergence], found: dict[str, Divergence], kept: Measured) -> None:
    for name, divergence in fresh.items():
        kept.put(name, "divergence", divergence)
    found |= fresh


def _progress(names: Iterable[str], count: int, say: Say) -> Callable[[int], None]:
    listed = ", ".join(names)

    def progress(done: int) -> None:
        if done % 10 == 0 or done == count:
            say(f"divergence of {listed}: {done} of {count} dialogues")

    return progress


def _scores(
    work: Path, records: Sequence[Record], scorer: Scorer | None, kept: Measured, say: Say
) -> dict[str, ScoreSummary]:
    if scorer is None:
        return {}
    found = {}
    for record in records:
        summary = kept.get(record.name, "success", ScoreSummary)
        if summary is None:
            summary = scorer(record.name, record.engine, VARIANTS[record.name].path(work))
            if summary is None:
                continue
            kept.put(record.name, "success", summary)
        found[record.name] = summary
        say(f"{record.name:<10} {sum(summary.success)} of {len(summary.success)} succeed")
    return found


def _reference_name(scores: dict[str, ScoreSummary]) -> str | None:
    """F16 if it was scored, else the first that was (the table's order: best first)."""
    return FLIPS_AGAINST if FLIPS_AGAINST in scores else next(iter(scores), None)


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    groups: list[list[Record]] = []
    for record in records:
        if groups and sum(r.bytes for r in groups[-1]) + record.bytes <= OPEN_BYTES:
            groups[-1].append(record)
        else:
            groups.append([record])
    return groups


@contextlib.contextmanager
def _opened(work: Path, records: Sequence[Record], context: int) -> Iterator[dict[str, LogitsAt]]:
    with contextlib.ExitStack() as stack:
        found = {}
        for record in records:
            path = VARIANTS[record.name].path(work)
            engine = open_engine(record.engine, path, context_tokens=context)
            stack.callback(engine.close)
            found[record.name] = at_positions(engine.logits)
        yield found


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"
