"""A report with known numbers."""

from dataclasses import replace

import pytest

from subterra.compile.rates import Rate
from subterra.quantize.divergence import Divergence
from subterra.quantize.quantize import Record
from subterra.quantize.report_data import Report, Row, ScoreSummary, count_flips, recommend
from subterra.quantize.speed import Speed

MIB = 1 << 20
SCENARIOS = 200
# name, engine, MiB, bits per weight, KLD mean, KLD 99 %, same top, failures, decode tokens/s
NUMBERS = (
    ("F16", "llama.cpp", 259.0, 16.02, 0.0, 0.0, 1.0, 6, 62.0),
    ("Q8_0", "llama.cpp", 138.4, 8.51, 0.0006, 0.0091, 0.997, 7, 104.0),
    ("Q4_0", "llama.cpp", 87.5, 5.30, 0.088, 1.73, 0.941, 61, 121.0),
    ("onnx-fp32", "onnxruntime", 514.3, 32.0, 3.5e-9, 2.9e-8, 1.0, 6, 31.0),
    ("onnx-int8", "onnxruntime", 149.0, 9.0, 0.0008, 0.012, 0.996, 7, 49.0),
    ("onnx-int4", "onnxruntime", 98.4, 5.9, 0.071, 1.42, 0.948, 48, 44.0),
)


@pytest.fixture
def sample_report() -> Report:
    """Return six variants scored on 200 scenarios; Q8_0 is the smallest that holds."""
    rows = [_row(*numbers) for numbers in NUMBERS]
    first = rows[0].scores
    assert first is not None
    rows = [
        replace(row, flips=count_flips(first.success, row.scores.success))
        for row in rows
        if row.scores
    ]
    return Report(
        title="zoom_support",
        date="2026-01-02",
        reference={"name": "merged", "parameters": 134_515_008, "ppl": 1.081},
        control=_divergence(0.0, 0.0, 1.0),
        rows=rows,
        flips_against="F16",
        text={"dialogues": 50, "tokens": 9_812, "file": "heldout.jsonl"},
        machine={
            "cpu": "A CPU",
            "cores": 2,
            "cores_present": 8,
            "memory_gib": 15.6,
            "system": "Linux x86_64, Python 3.11.7",
        },
        recommendation=recommend(rows, "F16"),
    )


def _row(
    name: str,
    engine: str,
    mib: float,
    bits: float,
    mean: float,
    p99: float,
    top: float,
    failures: int,
    decode: float,
) -> Row:
    size = int(mib * MIB)
    return Row(
        Record(name, engine, name, name, size, bits, 134_515_008, "ab" * 32, {}, 1.0),
        _divergence(mean, p99, top),
        Speed(210.0, 380.0, 673.0, decode, size + 90 * MIB, 256, 192, 3, 2, 0.21),
        ScoreSummary([i >= failures for i in range(SCENARIOS)], {"hub_accuracy": Rate(990, 1000)}),
    )


def _divergence(mean: float, p99: float, top: float) -> Divergence:
    kld = {
        "mean": mean,
        "mean_error": mean / 20,
        "median": mean / 4,
        "p90": p99 / 5,
        "p95": p99 / 3,
        "p99": p99,
        "p99.9": 2 * p99,
        "max": 4 * p99,
    }
    ratio = 1 + mean / 2
    return Divergence(
        9_812,
        50,
        1.081 * ratio,
        1.081,
        ratio,
        mean / 9,
        kld,
        Rate(int(top * 9812), 9812),
        0.0,
        0.01,
    )
