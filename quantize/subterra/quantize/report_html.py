"""The report as one HTML file: no script, no network, light and dark, printable.

Goes in: a `Report`. Comes out: a page with the verdict first. Measures and judges nothing.

    >>> page(report).startswith("<!doctype html>")
    True
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from types import MappingProxyType

from subterra.quantize.report_chart import BANDS, Point, band, scatter
from subterra.quantize.report_data import KLD_P99_LIMIT, Report, Row
from subterra.quantize.report_markdown import (
    COLUMNS,
    HOW_TO_READ,
    MIB,
    control_cells,
    machine,
    method,
    row_cells,
)

BARS: Mapping[str, Callable[[Row], float]] = {
    "MiB": lambda row: float(row.record.bytes),
    "Success": lambda row: row.success.value if row.success else 0.0,
    "Decode tok/s": lambda row: row.speed.decode_tokens_per_s,
    "Prefill tok/s": lambda row: row.speed.prefill_tokens_per_s,
    "Peak MiB": lambda row: float(row.speed.peak_rss_bytes),
}
"""Columns with a bar in proportion to the column's largest value."""

NO_BARS: Mapping[str, str] = MappingProxyType({})

WORDS = ("Variant", "Engine")
"""Columns that hold words, not numbers."""

ACCURACY = (*WORDS, *COLUMNS[2:10])
SPEED = (*WORDS, "MiB", *COLUMNS[10:])


def page(report: Report) -> str:
    """Write the whole page."""
    style = resources.files("subterra.quantize").joinpath("report.css").read_text("utf-8")
    choice = report.recommendation
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(report.title)}: quantization report</title>",
            f"<style>{style}</style></head><body><main>",
            f"<header><p>Quantization report</p><h1>{escape(report.title)}</h1></header>",
            f'<section class="verdict"><h2>Ship <strong>{escape(choice.name)}</strong></h2>',
            f"<p>{escape(choice.why)}</p>{_figures(report)}</section>",
            f"<section><h2>Accuracy</h2>{_table(report, ACCURACY, control=True)}</section>",
            f"<section><h2>Size and speed</h2>{_table(report, SPEED, control=False)}</section>",
            "<section><h2>Divergence against size</h2><figure>",
            scatter(_points(report), KLD_P99_LIMIT),
            f"<figcaption>{_legend(report)}</figcaption></figure></section>",
            f"<section><h2>How to read it</h2><p>{escape(' '.join(HOW_TO_READ))}</p></section>",
            '<div class="columns"><section><h2>Method</h2><ul>',
            *(f"<li>{escape(sentence)}</li>" for sentence in method(report)),
            "</ul></section><section><h2>Machine</h2><dl>",
            *(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in machine(report)),
            "</dl></section></div></main></body></html>",
            "",
        ]
    )


def _figures(report: Report) -> str:
    """Four numbers of the recommended variant, large."""
    row = next(row for row in report.rows if row.name == report.recommendation.name)
    success = f"{100 * row.success.value:.1f} %" if row.success else "not measured"
    figures = [
        (f"{row.record.bytes / MIB:.0f} MiB", "on disk"),
        (success, "success"),
        (f"{row.speed.decode_tokens_per_s:.0f} tok/s", "decode"),
        (f"{100 * row.divergence.same_top.value:.1f} %", "same top token"),
    ]
    items = "".join(f"<li><b>{escape(v)}</b> {escape(n)}</li>" for v, n in figures)
    return f'<ul class="figures">{items}</ul>'


def _table(report: Report, columns: Sequence[str], *, control: bool) -> str:
    head = "".join(f'<th scope="col"{_class(name)}>{escape(name)}</th>' for name in columns)
    body = "".join(_row(row, report, columns) for row in report.rows)
    if control:
        body += f'<tr class="control">{_cells(control_cells(report), columns)}</tr>'
    return (
        '<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Row, report: Report, columns: Sequence[str]) -> str:
    bars = {}
    for name, value in BARS.items():
        largest = max(map(value, report.rows))
        if largest:
            share = 100 * value(row) / largest
            bars[name] = f'<i class="bar" style="width:{share:.1f}%"></i>'
    chosen = ' class="chosen"' if row.name == report.recommendation.name else ""
    return f"<tr{chosen}>{_cells(row_cells(row), columns, _swatch(row), bars)}</tr>"


def _cells(
    cells: Sequence[str],
    columns: Sequence[str],
    swatch: str = "",
    bars: Mapping[str, str] = NO_BARS,
) -> str:
    """Write the cells of one row, a subset of COLUMNS; the first is the row's heading."""
    texts = dict(zip(COLUMNS, cells, strict=True))
    first, *others = columns
    rest = "".join(
        f"<td{_class(name)}>{escape(texts[name])}{bars.get(name, '')}</td>" for name in others
    )
    return f'<th scope="row">{swatch}{escape(texts[first])}</th>{rest}'


def _class(column: str) -> str:
    return "" if column in WORDS else ' class="number"'


def _swatch(row: Row) -> str:
    value = row.success.value if row.success else None
    return f'<span class="swatch {band(value)}"></span>'


def _points(report: Report) -> list[Point]:
    return [
        Point(
            name=row.name,
            x=row.record.bytes / MIB,
            y=row.divergence.kld["p99"],
            success=row.success.value if row.success else None,
            best=row.name == report.recommendation.name,
        )
        for row in report.rows
    ]


def _legend(report: Report) -> str:
    """Explain the colours that occur, and the ring."""
    shown = {band(point.success) for point in _points(report)}
    names = {name: f"success from {floor:.0%}" for floor, name in BANDS if floor}
    names[BANDS[-1][1]] = f"success below {BANDS[-2][0]:.0%}"
    names["unknown"] = "success not measured"
    items = [
        f'<span><span class="swatch {name}"></span>{escape(text)}</span>'
        for name, text in names.items()
        if name in shown
    ]
    items.append('<span><span class="swatch ringed"></span>recommended</span>')
    return "".join(items)
