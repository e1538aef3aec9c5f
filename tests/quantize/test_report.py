import json
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from subterra.compile.dialogue import Dialogue, Turn
from subterra.quantize import report as verb
from subterra.quantize import report_measure
from subterra.quantize.agent_note import read_note
from subterra.quantize.measured import Measured, What
from subterra.quantize.quantize import quantize
from subterra.quantize.report_data import Report, ScoreSummary
from subterra.quantize.report_wiring import (
    ScoreOptions,
    encode,
    held_out_texts,
    make_scorer,
)
from subterra.quantize.variants import VARIANTS
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.cli import main
from subterra.runtime.errors import AdapterError, ExportError, InputError, ScoreError, UsageError

NAMES = ["F16", "Q8_0", "onnx-fp32"]
NOTE = {
    "name": "sound_support",
    "base": {"id": "tiny", "sha256": "a" * 64},
    "adapter_sha256": "b" * 64,
    "system": "the system",
    "recipe": "traced",
    "slots": ["device"],
}


def dialogue(number: int) -> Dialogue:
    turns = (
        Turn(None, ("start",), "welcome", {"device": None}, (), "the sound and the video"),
        Turn(
            f"video {number}", ("ask",), "fix_audio", {"device": "Mac"}, ("tried",), "end the video"
        ),
    )
    return Dialogue(("welcome", "fix_audio"), turns)


def nothing(work: Path) -> Measured:
    """Return results under a name that no other test uses."""
    return Measured(work / f".{secrets.token_hex(4)}", {}, {})


@pytest.fixture(scope="module")
def work(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(tiny_checkpoint, folder / "merged")
    (folder / "merged" / "subterra.json").write_text(json.dumps(NOTE))
    lines = [json.dumps(asdict(dialogue(i))) for i in range(6)]
    (folder / "heldout.jsonl").write_text("\n".join(lines) + "\n")
    quantize(folder, NAMES, lambda line: None)
    return folder


@pytest.fixture(scope="module")
def report(work: Path) -> Report:
    def scorer(name: str, engine: str, path: Path) -> ScoreSummary:
        assert path == VARIANTS[name].path(work)
        return ScoreSummary([True] * 19 + [name != "Q8_0"])

    return verb.build(work, work / "heldout.jsonl", 4, scorer, lambda line: None, nothing(work))


def test_every_variant_is_measured(report: Report) -> None:
    assert [row.name for row in report.rows] == NAMES
    for row in report.rows:
        assert row.divergence.texts == 4
        assert row.speed.decode_tokens_per_s > 0
        assert row.speed.peak_rss_bytes > 10_000_000
        assert row.success is not None
    f16, q8, onnx = (row.divergence.kld["mean"] for row in report.rows)
    assert onnx < f16 < q8
    assert onnx < 1e-6


def test_the_reference_against_itself_is_exactly_zero(report: Report) -> None:
    assert report.control.kld["max"] == 0.0
    assert report.control.ppl_ratio == 1.0


def test_flips_are_counted_against_f16(report: Report) -> None:
    assert report.flips_against == "F16"
    flips = [row.flips for row in report.rows]
    assert [f and (f.right_to_wrong, f.wrong_to_right) for f in flips] == [(0, 0), (1, 0), (0, 0)]


def test_variants_that_do_not_fit_in_memory_together_are_measured_apart(
    work: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_measure, "OPEN_BYTES", 1)
    speeds = {row.name: row.speed for row in report.rows}
    monkeypatch.setattr(report_measure, "_speeds", lambda *args: speeds)
    again = verb.build(work, work / "heldout.jsonl", 4, None, lambda line: None, nothing(work))
    means = [row.divergence.kld["mean"] for row in again.rows]
    assert means == pytest.approx([row.divergence.kld["mean"] for row in report.rows], rel=1e-3)


def test_the_verb_writes_three_files_and_one_document(
    work: Path, report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "build", lambda *args: report)
    command = ["report", str(work), "--dialogues", str(work / "heldout.jsonl"), "--json"]
    assert main([*command, "--require", "F16.success >= 0.8"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((work / "report" / "report.json").read_text())
    assert (work / "report" / "report.html").is_file()
    assert (work / "report" / "report.md").is_file()
    assert err.splitlines()[-1] == f"next: subterra seal {work}"
    assert main([*command, "--require", "Q8_0.success >= 0.99"]) == ScoreError.exit_code
    err = capsys.readouterr().err
    assert main([*command, "--require", "onnx-int4.success > 0"]) == UsageError.exit_code
    assert "variants: F16, Q8_0, onnx-fp32" in capsys.readouterr().err
    assert "Q8_0.success is 0.95" in err
    assert "required >= 0.99" in err


def test_only_the_agents_tokens_and_its_end_of_turn_are_counted(work: Path) -> None:
    agent = read_note(work / "merged")
    tokenizer = ChatTokenizer(work / "merged", ChatFormat(system=agent.system))
    text = encode(tokenizer, agent, dialogue(1))
    counted = [t for t, mark in zip(text.tokens, text.counted, strict=True) if mark]
    assert tokenizer.decode(counted) == (
        "start > welcome | ?\nthe sound and the videoask > fix audio | Mac | tried\nend the video"
    )
    assert counted.count(tokenizer.end_of_turn_id) == 2
    plain = encode(tokenizer, agent.model_copy(update={"recipe": "plain"}), dialogue(1))
    counted = [t for t, mark in zip(plain.tokens, plain.counted, strict=True) if mark]
    assert tokenizer.decode(counted) == "the sound and the videoend the video"


def test_dialogues_are_taken_evenly_from_the_whole_file(work: Path) -> None:
    tokenizer = ChatTokenizer(work / "merged")
    texts = held_out_texts(work / "merged", work / "heldout.jsonl", 3)
    found = [tokenizer.decode(text.tokens) for text in texts]
    assert [f"video {i}" in text for i, text in zip((0, 2, 4), found, strict=True)] == [True] * 3
    assert len(held_out_texts(work / "merged", work / "heldout.jsonl", 99)) == 6


def test_variants_of_another_checkpoint_are_refused(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "agent"
    shutil.copytree(work, copy)
    with (copy / "merged" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match="made from another merged model"):
        verb.current_records(copy)


def test_missing_inputs_name_the_next_command(work: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no merged checkpoint"):
        verb.current_records(tmp_path)
    shutil.copytree(work / "merged", tmp_path / "merged")
    with pytest.raises(ExportError, match="has no variants"):
        verb.current_records(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no dialogue"):
        held_out_texts(tmp_path / "merged", tmp_path / "empty.jsonl", 5)
    (tmp_path / "merged" / "subterra.json").write_text("{}")
    with pytest.raises(AdapterError, match="names no base model"):
        read_note(tmp_path / "merged")
    with pytest.raises(InputError, match="--limit is 0"):
        verb.build(work, work / "heldout.jsonl", 0, None, lambda line: None, nothing(work))


def test_without_a_user_bank_nothing_is_scored() -> None:
    options = ScoreOptions(Path("merged"), None, None, 10, 0)
    assert make_scorer(options) is None


def test_the_scorer_gets_the_options_and_the_procedure_beside_the_bank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from subterra.compile import score

    calls: list[dict[str, object]] = []

    def score_variant(engine: str, path: Path, **options: object) -> ScoreSummary:
        calls.append({"engine": engine, "path": path, **options})
        return ScoreSummary([True, False], constrained=True)

    monkeypatch.setattr(score, "score_variant", score_variant)
    users = tmp_path / "users" / "heldout.yaml"
    scorer = make_scorer(ScoreOptions(Path("merged"), users, None, 10, 3))
    assert scorer is not None
    summary = scorer("Q8_0", "llama.cpp", Path("Q8_0.gguf"))
    assert summary is not None
    assert summary == ScoreSummary([True, False], constrained=True)
    assert calls == [
        {
            "engine": "llama.cpp",
            "path": Path("Q8_0.gguf"),
            "merged": Path("merged"),
            "procedure": tmp_path / "procedure.yaml",
            "users": users,
            "conversations": 10,
            "seed": 3,
            "constrained": True,
        }
    ]


def test_results_depend_on_the_card_and_on_whether_state_lines_are_held(
    work: Path, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(work / "merged", merged)

    def inputs(*, constrained: bool = True) -> dict[What, object]:
        options = ScoreOptions(merged, None, None, 10, 3, constrained=constrained)
        return verb._inputs(work / "heldout.jsonl", 4, options)

    before, loose = inputs(), inputs(constrained=False)
    assert [name for name in before if before[name] != loose[name]] == ["success"]
    (merged / "subterra.json").write_text(json.dumps(NOTE | {"system": "another"}))
    after = inputs()
    assert not [name for name in before if before[name] == after[name]]


def test_the_texts_of_a_report_fit_the_models_vocabulary(work: Path) -> None:
    texts = held_out_texts(work / "merged", work / "heldout.jsonl", 6)
    config = json.loads((work / "merged" / "config.json").read_text())
    assert np.max([max(text.tokens) for text in texts]) < config["vocab_size"]
