"""The report as Markdown, and the wording that Markdown and HTML share.

Goes in: a `Report`. Comes out: text. Measures and judges nothing.

    >>> markdown(report).splitlines()[0]
    '# Quantization report: zoom_support'
"""

from collections.abc import Mapping

from subterra.compile.rates import Rate
from subterra.quantize.report_data import Report, Row

MIB = 1 << 20

HOW_TO_READ = (
    "KLD is the information lost, in nats, when the variant predicts a token in the merged model's "
    "place; 0 means the same prediction, and below 0.02 on average the text seldom changes.",
    "The mean hides rare accidents, so look at the 99th percentile: a variant that is right "
    "on average but badly wrong at one token in a hundred errs in most conversations.",
)

NOT_MEASURED = "not measured"

P_SHOWN = 0.001
"""Smaller p values are not told apart."""

COLUMNS = (
    "Variant",
    "Engine",
    "MiB",
    "Bits/weight",
    "PPL ratio",
    "KLD mean",
    "KLD 99\u00a0%",
    "Same top",
    "Success",
    "Flips",
    "Decode tok/s",
    "Prefill tok/s",
    "First token ms",
    "Load ms",
    "Peak MiB",
)


def markdown(report: Report) -> str:
    """Write the report: verdict, table, how to read it, method, machine."""
    lines = [f"# Quantization report: {report.title}", ""]
    lines += [f"**Ship {report.recommendation.name}.** {report.recommendation.why}", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    for row in report.rows:
        bold = "**" if row.name == report.recommendation.name else ""
        cells = row_cells(row)
        lines.append("| " + " | ".join([f"{bold}{cells[0]}{bold}", *cells[1:]]) + " |")
    lines.append("| " + " | ".join(control_cells(report)) + " |")
    lines += ["", "## How to read it", "", " ".join(HOW_TO_READ), "", "## Method", ""]
    lines += [f"* {sentence}" for sentence in method(report)]
    lines += ["", "## Machine", ""]
    lines += [f"* {name}: {value}" for name, value in machine(report)]
    return "\n".join(lines) + "\n"


def row_cells(row: Row) -> list[str]:
    """Cells of one row, in the order of COLUMNS."""
    kld, speed = row.divergence.kld, row.speed
    error = row.divergence.ppl_ratio_error
    return [
        row.name,
        row.record.engine,
        f"{row.record.bytes / MIB:.1f}",
        f"{row.record.bits_per_weight:.2f}",
        f"{row.divergence.ppl_ratio:.4f} ± {error:.4f}",
        small(kld["mean"]),
        small(kld["p99"]),
        percent(row.divergence.same_top),
        success(row),
        flips(row),
        f"{speed.decode_tokens_per_s:.0f}",
        f"{speed.prefill_tokens_per_s:.0f}",
        f"{speed.ttft_ms:.0f}",
        f"{speed.load_ms:.0f}",
        f"{speed.peak_rss_bytes / MIB:.0f}",
    ]


def control_cells(report: Report) -> list[str]:
    """Cells of the control row: the reference against itself."""
    control = report.control
    cells = dict.fromkeys(COLUMNS, "–")
    cells |= {
        "Variant": "merged (control)",
        "Engine": "torch",
        "PPL ratio": f"{control.ppl_ratio:.4f} ± {control.ppl_ratio_error:.4f}",
        "KLD mean": small(control.kld["mean"]),
        "KLD 99\u00a0%": small(control.kld["p99"]),
        "Same top": percent(control.same_top),
    }
    return list(cells.values())


def small(value: float) -> str:
    """Two significant digits without an exponent where that is short."""
    if value == 0:
        return "0"
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}".replace("e-0", "e-")


def percent(rate: Rate) -> str:
    """Value and interval of a rate in per cent."""
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def success(row: Row) -> str:
    """Success with its interval."""
    return percent(row.success) if row.success else NOT_MEASURED


def flips(row: Row) -> str:
    """Conversations lost and won against the reference variant."""
    if row.flips is None:
        return NOT_MEASURED
    if row.flips.right_to_wrong + row.flips.wrong_to_right == 0:
        return "none"
    p = f"p = {row.flips.p:.2g}" if row.flips.p >= P_SHOWN else f"p < {P_SHOWN:g}"
    return f"−{row.flips.right_to_wrong} +{row.flips.wrong_to_right} ({p})"


def method(report: Report) -> list[str]:
    """Say how each number came about and what was not measured."""
    text, control = report.text, report.control
    sentences = [
        f"Reference: the merged checkpoint in torch at fp32 ({report.reference['parameters']:,} "
        f"weights), perplexity {report.reference['ppl']} on this text.",
        f"Text: {text['dialogues']} held-out dialogues, {text['tokens']:,} tokens of the agent "
        "(state lines included), the same for every variant; the user's tokens are context only.",
        "KLD and same-top share over the whole vocabulary, nothing rounded or clamped; "
        "± is one standard error, paired by token and clustered by dialogue; other intervals are "
        "Wilson, 95 %.",
        f"Control: the reference computed a second time on {control.texts} dialogues differs by a "
        f"mean KLD of {small(control.kld['mean'])} and agrees on the top token in "
        f"{100 * control.same_top.value:.1f} % of {control.tokens:,} positions.",
        f"Speed: each variant in a process of its own, median of {_span(report, 'repeats')} "
        f"replies, prompt of {report.rows[0].speed.prompt_tokens} tokens with nothing cached, "
        f"{_span(report, 'decode_tokens')} tokens written in all; load includes importing the "
        "engine; peak memory includes the mapped model file.",
    ]
    if report.flips_against is None:
        sentences.append("Success and flips were not measured: no user bank was given (--users).")
    else:
        sentences.append(
            f"Success: conversations with simulated users on held-out wording; flips are counted "
            f"against {report.flips_against} on the same scenarios (−: right becomes wrong), p is "
            "the exact McNemar test."
        )
        sentences.append(_held(report))
    return sentences


def _held(report: Report) -> str:
    """Say whether the figures are those of an agent that is sealed with its transitions."""
    if report.constrained:
        return (
            "State lines were held to the procedure's legal transitions, as in an agent that is "
            "sealed with them."
        )
    return (
        "State lines were not held to the procedure's legal transitions, as in an agent that is "
        "sealed with --unconstrained."
    )


def _span(report: Report, name: str) -> str:
    """Least and greatest number of this name over the variants, or the one that all have."""
    found = sorted({int(getattr(row.speed, name)) for row in report.rows})
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def machine(report: Report) -> list[tuple[str, str]]:
    """Facts of the machine as (name, value)."""
    facts: Mapping[str, object] = report.machine
    threads = report.rows[0].speed.threads
    loads = [row.speed.load_average for row in report.rows]
    return [
        ("CPU", str(facts["cpu"])),
        ("Cores usable", f"{facts['cores']} of {facts['cores_present']}; {threads} threads used"),
        ("Memory", f"{facts['memory_gib']} GiB"),
        ("System", str(facts["system"])),
        ("Load before each run", f"{min(loads):.1f} to {max(loads):.1f} (quiet: below 0.5)"),
        ("Date", report.date),
    ]
