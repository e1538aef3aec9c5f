"""Results outlive the process, but not a change of what they depend on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from subterra.compile.rates import Rate
from subterra.quantize import measured
from subterra.quantize.divergence import Divergence
from subterra.quantize.measured import FOLDER, Measured
from subterra.quantize.quantize import quantize
from subterra.quantize.report_data import ScoreSummary
from subterra.quantize.speed import Speed

SPEED = Speed(210.0, 380.0, 673.0, 1 / 3, 90, 256, 192, 3, 2, 0.21)
KLD = {"mean": 1e-9 / 3, "max": 0.5}
DIVERGENCE = Divergence(1, 2, 1.1, 1.2, 1 / 3, 0.2, KLD, Rate(1, 3), 0.1, 0.2)
SCORES = ScoreSummary([True, False], {"hub_accuracy": Rate(3, 4)}, constrained=True)
NOTE = {
    "name": "sound_support",
    "base": {"id": "tiny", "sha256": "a" * 64},
    "adapter_sha256": "b" * 64,
    "system": "the system",
    "recipe": "plain",
    "slots": ["device"],
}
MAIN = "import sys; from subterra.runtime.cli import main; sys.exit(main())"
TURN = {"user": None, "intents": ["start"], "node": "welcome", "slots": {"device": None}}
DIALOGUE = {"path": ["welcome"], "turns": [TURN | {"flags": [], "reply": "the sound"}]}


def test_every_result_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Measured(tmp_path / FOLDER, {}, {})
    kept.put("Q8_0", "speed", SPEED)
    kept.put("Q8_0", "divergence", DIVERGENCE)
    kept.put("Q8_0", "success", SCORES)
    assert kept.get("Q8_0", "speed", Speed) == SPEED
    assert kept.get("Q8_0", "divergence", Divergence) == DIVERGENCE
    assert kept.get("Q8_0", "success", ScoreSummary) == SCORES
    assert kept.get("F16", "speed", Speed) is None
    kept.drop()
    assert not list(tmp_path.iterdir())


def test_a_result_of_other_inputs_or_of_another_file_is_not_taken(tmp_path: Path) -> None:
    Measured(tmp_path, {"speed": 1, "success": 1}, {"F16": "a"}).put("F16", "speed", SPEED)

    def get(inputs: object, made_from: str) -> Speed | None:
        kept = Measured(tmp_path, {"speed": inputs, "success": 2}, {"F16": made_from})
        return kept.get("F16", "speed", Speed)

    assert get(1, "a") == SPEED
    assert get(2, "a") is None
    assert get(1, "b") is None


def test_a_result_of_other_code_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Measured(tmp_path, {}, {})
    kept.put("F16", "speed", SPEED)
    assert kept.get("F16", "speed", Speed) == SPEED
    monkeypatch.setattr(measured, "code_digest", lambda: "another")
    assert kept.get("F16", "speed", Speed) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"inputs": 1}', "\0"])
def test_a_damaged_result_is_measured_again(content: str, tmp_path: Path) -> None:
    kept = Measured(tmp_path, {}, {})
    kept.put("F16", "speed", SPEED)
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    file.write_text(content)
    assert kept.get("F16", "speed", Speed) is None
    file.write_text(json.dumps(document | {"result": {"load_ms": "fast"}}))
    assert kept.get("F16", "speed", Speed) is None


def test_a_killed_report_goes_on_where_it_stopped(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    shutil.copytree(tiny_checkpoint, tmp_path / "merged")
    (tmp_path / "merged" / "subterra.json").write_text(json.dumps(NOTE))
    (tmp_path / "heldout.jsonl").write_text(json.dumps(DIALOGUE) + "\n")
    quantize(tmp_path, ["F16", "Q8_0"], lambda line: None)

    command = [sys.executable, "-c", MAIN, "report", str(tmp_path)]
    command += ["--dialogues", str(tmp_path / "heldout.jsonl")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as killed:
        assert killed.stderr is not None
        line = killed.stderr.readline()
        killed.send_signal(signal.SIGKILL)
    assert line.startswith("F16 ")
    assert not (tmp_path / "report").exists()
    before = json.loads((tmp_path / FOLDER / "F16.speed.json").read_text())["result"]

    subprocess.run(command, check=True, capture_output=True, env=environment)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    found = {variant["name"]: variant for variant in report["variants"]}
    assert {name: found["F16"][name] for name in before} == before
    assert found["Q8_0"]["decode_tokens_per_s"] > 0
    assert not (tmp_path / FOLDER).exists()
