import json
import shutil
from pathlib import Path

import pytest

from subterra.quantize import quantize as verb
from subterra.quantize.quantize import parse_names, quantize
from subterra.quantize.variants import VARIANTS, existing, parameter_count, size_bytes
from subterra.runtime.cli import main
from subterra.runtime.errors import ExportError, UsageError

NAMES = ["F16", "Q8_0", "onnx-fp32", "onnx-int4"]


@pytest.fixture(scope="module")
def work(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    shutil.copytree(tiny_checkpoint, folder / "merged")
    quantize(folder, NAMES, lambda line: None)
    return folder


def test_every_named_variant_exists_with_its_record(work: Path) -> None:
    assert [variant.name for variant in existing(work)] == NAMES
    for name in NAMES:
        record = json.loads(VARIANTS[name].record_path(work).read_text())
        assert record["bytes"] == size_bytes(VARIANTS[name].path(work))
        assert record["tools"]["subterra"]


def test_bits_per_weight_count_the_stored_tensors(work: Path) -> None:
    bits = {
        name: json.loads(VARIANTS[name].record_path(work).read_text())["bits_per_weight"]
        for name in NAMES
    }
    assert bits["onnx-fp32"] == pytest.approx(32, abs=0.5)
    assert 16 <= bits["F16"] < 16.5
    assert 8.5 <= bits["Q8_0"] < 9.5
    assert 5 <= bits["onnx-int4"] < 8


def test_a_second_run_makes_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(verb, "_make", refuse)
    lines: list[str] = []
    quantize(work, NAMES, lines.append)
    assert all(line.endswith("up to date") for line in lines)


def test_an_interrupted_run_is_resumed(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "agent"
    shutil.copytree(work, copy)
    record = VARIANTS["Q8_0"].record_path(copy)
    record.unlink()  # what a kill between the variant and its record leaves
    VARIANTS["onnx-int4"].path(copy).joinpath("model.onnx").write_bytes(b"cut off")
    lines: list[str] = []
    quantize(copy, NAMES, lines.append)
    made = [line.split()[0] for line in lines if line.endswith("...")]
    assert made == ["Q8_0", "onnx-int4"]
    assert record.is_file()


def test_another_checkpoint_makes_the_variants_again(work: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    copy = tmp_path / "agent"
    shutil.copytree(work, copy)
    weights = copy / "merged" / "model.safetensors"
    tensors = load_file(weights)
    first = next(iter(tensors))
    tensors[first] = tensors[first] * 1.5
    save_file(tensors, weights, metadata={"format": "pt"})
    lines: list[str] = []
    quantize(copy, ["F16"], lines.append)
    assert lines[0].endswith("...")


def test_what_a_variant_is_made_from_is_made_too(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "merged", tmp_path / "merged")
    records = quantize(tmp_path, ["Q4_0"], lambda line: None)
    assert [record.name for record in records] == ["F16", "Q4_0"]


def test_the_verb_prints_one_json_document(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(work), "--variants", "F16,Q8_0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [v["name"] for v in json.loads(out)["variants"]] == ["F16", "Q8_0"]
    assert err.splitlines()[-1].startswith("next: subterra report ")


def test_a_missing_checkpoint_is_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(tmp_path)]) == ExportError.exit_code
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "no merged checkpoint" in err[0]
    assert "subterra merge" in err[1]


@pytest.mark.parametrize("text", ["Q5_9", "", "F16,,q8_0"])
def test_unknown_variants_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_names(text)
    assert "F16,Q8_0,Q4_0,onnx-fp32,onnx-int8,onnx-int4" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"\x10\0\0\0\0\0\0\0{}"]
)
def test_a_damaged_checkpoint_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match="not a safetensors file"):
        parameter_count(tmp_path)
