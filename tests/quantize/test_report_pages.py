import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from subterra.quantize.report_chart import Point, band, scatter
from subterra.quantize.report_data import Recommendation, Report
from subterra.quantize.report_html import page
from subterra.quantize.report_markdown import COLUMNS, markdown, small

VOID = {"meta", "line", "circle", "br"}


class Balance(HTMLParser):
    """Fail on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    return parser


def test_the_page_is_well_formed_and_starts_with_the_verdict(sample_report: Report) -> None:
    html = page(sample_report)
    assert parsed(html).open == []
    assert html.index("Ship <strong>Q8_0") < html.index("<table>")


def test_the_page_needs_nothing_from_outside(sample_report: Report) -> None:
    html = page(sample_report)
    assert not re.search(r"<script|https?:|src=|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_every_variant_and_the_control_have_a_row(sample_report: Report) -> None:
    text = parsed(page(sample_report)).text
    for name in [*(row.name for row in sample_report.rows), "merged (control)"]:
        assert name in text
    table = [line for line in markdown(sample_report).splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(sample_report.rows) + 1
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}


def test_names_from_files_are_escaped(sample_report: Report) -> None:
    hostile = replace(
        sample_report, title="<img src=x>", recommendation=Recommendation("Q8_0", "<b>why</b>")
    )
    html = page(hostile)
    assert "<img" not in html
    assert "<b>why" not in html


def test_what_was_not_measured_is_said(sample_report: Report) -> None:
    rows = [replace(row, scores=None, flips=None) for row in sample_report.rows]
    report = replace(sample_report, rows=rows, flips_against=None)
    text = markdown(report)
    assert "| not measured | not measured |" in text
    assert "Success and flips were not measured: no user bank was given (--users)." in text
    assert "success not measured" in page(report)
    assert "State lines were" not in text
    assert report.to_json()["constrained"] is None


@pytest.mark.parametrize("held", [True, False])
def test_the_method_says_whether_state_lines_were_held(sample_report: Report, held: bool) -> None:
    rows = [
        replace(row, scores=replace(row.scores, constrained=held))
        for row in sample_report.rows
        if row.scores
    ]
    report = replace(sample_report, rows=rows)
    assert report.to_json()["constrained"] is held
    for text in (markdown(report), page(report)):
        assert ("State lines were held to the procedure" in text) is held
        assert ("sealed with --unconstrained" in text) is not held


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00912, "0.0091"), (1.73, "1.7"), (3.5e-9, "3e-9"), (0.00012, "0.00012")],
)
def test_small_numbers_keep_two_digits(value: float, text: str) -> None:
    assert small(value) == text


def test_success_decides_the_colour() -> None:
    assert [band(s) for s in (1.0, 0.95, 0.9, 0.5, None)] == [
        "good",
        "good",
        "fair",
        "poor",
        "unknown",
    ]


def test_a_chart_of_one_point_without_divergence_is_drawn() -> None:
    svg = scatter([Point("F16", 0.5, 0.0)], limit=0.2)
    assert svg.count('class="dot unknown"') == 1
    assert "nan" not in svg


def test_labels_of_close_points_do_not_overlap() -> None:
    svg = scatter([Point("alpha", 100, 0.01), Point("beta", 101, 0.0101)], limit=0.2)
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">(?:alpha|beta)<', svg)
    assert len(places) == 2
    (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in places)
    assert abs(y1 - y2) >= 15 or abs(x1 - x2) >= 35
