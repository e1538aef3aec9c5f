import json
from dataclasses import replace

from subterra.compile.rates import Rate
from subterra.quantize.report_data import (
    Report,
    Row,
    ScoreSummary,
    count_flips,
    failings,
    recommend,
)

KEYS = [
    "name",
    "engine",
    "bytes",
    "bits_per_weight",
    "ppl_ratio",
    "kld",
    "same_top",
    "success",
    "flips",
    "decode_tokens_per_s",
    "prefill_tokens_per_s",
    "ttft_ms",
    "load_ms",
    "peak_rss_bytes",
]


def without_scores(row: Row) -> Row:
    return replace(row, scores=None, flips=None)


def test_every_key_that_other_tools_rely_on_is_there(sample_report: Report) -> None:
    document = json.loads(json.dumps(sample_report.to_json()))
    assert {"reference", "variants", "recommendation"} <= document.keys()
    for variant in document["variants"]:
        assert set(KEYS) <= variant.keys()
    q8 = document["variants"][1]
    assert q8["success"] == {"value": 0.965, "n": 200, "low": 0.93, "high": 0.983}
    assert q8["kld"]["p99"] == 0.0091
    assert q8["flips"] == {"right_to_wrong": 1, "wrong_to_right": 0, "n": 200, "p": 1.0}


def test_the_smallest_variant_that_holds_is_recommended(sample_report: Report) -> None:
    chosen = sample_report.recommendation
    assert chosen.name == "Q8_0"
    assert "Q4_0 is smaller, but mean KLD 0.088 is above 0.02" in chosen.why
    assert "96.5% against 97.0% for F16" in chosen.why


def test_without_scores_divergence_alone_decides_and_says_so(sample_report: Report) -> None:
    rows = [without_scores(row) for row in sample_report.rows]
    chosen = recommend(rows, None)
    assert chosen.name == "Q8_0"
    assert "success was not measured" in chosen.why


def test_a_variant_with_little_divergence_but_lost_conversations_fails(
    sample_report: Report,
) -> None:
    reference, row = sample_report.rows[0], sample_report.rows[1]
    worse = ScoreSummary([i >= 20 for i in range(200)])
    assert reference.scores is not None
    row = replace(row, scores=worse, flips=count_flips(reference.scores.success, worse.success))
    assert failings(row, reference.success) == ["success falls by 7.0 points"]
    assert recommend([reference, row], "F16").name == "F16"


def test_a_significant_loss_within_the_margin_fails_too(sample_report: Report) -> None:
    row = sample_report.rows[1]
    before = [True] * 1000
    after = [i >= 15 for i in range(1000)]
    row = replace(row, scores=ScoreSummary(after), flips=count_flips(before, after))
    assert failings(row, Rate(1000, 1000)) == ["success falls (McNemar p = 6.1e-05)"]


def test_when_nothing_holds_q8_0_is_named_with_its_faults(sample_report: Report) -> None:
    bad = sample_report.rows[2].divergence
    rows = [replace(row, divergence=bad) for row in sample_report.rows]
    chosen = recommend(rows, "F16")
    assert chosen.name == "Q8_0"
    assert chosen.why.startswith("No variant holds, so Q8_0 is the default although mean KLD")


def test_flips_are_counted_scenario_by_scenario() -> None:
    flips = count_flips([True, True, False, False], [True, False, True, False])
    assert (flips.right_to_wrong, flips.wrong_to_right, flips.n, flips.p) == (1, 1, 4, 1.0)
    assert count_flips([True, True, False], [False]).n == 1  # as far as both were scored
