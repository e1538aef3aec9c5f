"""Sealing: what goes into a bundle, what stays with the author, and atomically."""

import hashlib
import json
import os
import shutil
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from subterra.quantize.disclosure import disclosed, wordings
from subterra.quantize.quantize import Record
from subterra.quantize.seal import SealOptions, commit, seal
from subterra.runtime.bundle import open_bundle
from subterra.runtime.cli import main
from subterra.runtime.errors import AdapterError, BundleError, UsageError
from subterra.runtime.files import sha256_file
from subterra.runtime.signing import SigningKey

PROCEDURE = Path("examples/zoom_support/procedure.yaml").resolve()
NOTE = {
    "name": "zoom_support",
    "base": {"id": "smollm2-135m-instruct", "sha256": "a" * 64},
    "adapter_sha256": "b" * 64,
    "recipe": "traced",
    "system": "You are the Zoom support assistant on this device.",
    "nodes": ["welcome", "triage"],
    "seeds": {"compile": 7},
}
KEY = SigningKey(bytes(range(32)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("SUBTERRA_HOME", str(folder))
    return folder


@pytest.fixture
def work(tiny_checkpoint: Path, tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "zoom_support"
    (folder / "merged").mkdir(parents=True)
    for name in ("tokenizer.json", "config.json"):
        shutil.copyfile(tiny_checkpoint / name, folder / "merged" / name)
    (folder / "merged" / "subterra.json").write_text(json.dumps(NOTE))
    onnx = folder / "variants" / "onnx-int8"
    onnx.mkdir(parents=True)
    for name in ("Q8_0.gguf", "Q4_0.gguf", "onnx-int8/model.onnx", "onnx-int8/model.onnx_data"):
        (folder / "variants" / name).write_bytes(name.encode() * 10)
    (onnx / "config.json").write_text("{}")
    (onnx / "subterra.json").write_text(json.dumps(NOTE))
    for name in ("Q8_0", "Q4_0", "onnx-int8"):
        (folder / "variants" / f"{name}.json").write_text("{}")
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text('{"success": 1}')
    return folder


def test_a_sealed_agent_opens_and_holds_what_was_chosen(work: Path) -> None:
    path = seal(work, PROCEDURE, KEY)
    bundle = open_bundle(path, key=KEY.public)
    manifest = bundle.manifest
    assert path == work / "zoom_support.agent"
    assert [v.name for v in manifest.variants] == ["Q8_0", "Q4_0", "onnx-int8"]
    assert manifest.default_variant == "Q8_0"
    assert manifest.title == "Zoom support"
    assert manifest.slots == ("issue", "device")
    assert manifest.end_of_turn_id == 2
    assert manifest.seeds == {"compile": 7}
    assert manifest.tools["onnxruntime"]
    assert set(manifest.files) == {
        "tokenizer.json",
        "report.json",
        "transitions.json",
        "model-Q8_0.gguf",
        "model-Q4_0.gguf",
        "onnx-int8/model.onnx",
        "onnx-int8/model.onnx_data",
        "onnx-int8/config.json",
    }
    assert bundle.variant_path("onnx-int8").is_dir()
    for file in path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444, file


def test_the_legal_transitions_are_sealed_by_name_and_may_be_left_out(work: Path) -> None:
    bundle = open_bundle(seal(work, PROCEDURE, KEY))
    assert bundle.manifest.constrained
    assert bundle.table is not None
    assert bundle.table.start == "welcome"
    assert not disclosed((bundle.path / "transitions.json").read_text(), wordings(PROCEDURE))
    bare = open_bundle(seal(work, PROCEDURE, KEY, options=SealOptions(transitions=False)))
    assert (bare.manifest.constrained, bare.table) == (False, None)
    assert "transitions.json" not in bare.manifest.files


def test_an_agent_without_state_lines_carries_no_transitions(work: Path) -> None:
    write_note(work, recipe="plain")
    assert open_bundle(seal(work, PROCEDURE, KEY)).table is None
    with pytest.raises(UsageError, match="no state line to constrain"):
        seal(work, PROCEDURE, KEY, options=SealOptions(transitions=True))


def write_note(work: Path, **changes: object) -> None:
    (work / "merged" / "subterra.json").write_text(json.dumps(NOTE | changes))


def test_the_procedure_that_was_compiled_is_held_to(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_note(work, inputs={"procedure": sha256_file(PROCEDURE)})
    assert open_bundle(seal(work, PROCEDURE, KEY)).table is not None
    assert capsys.readouterr().err == ""


def test_an_edited_procedure_is_held_to_only_when_asked(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_note(work, inputs={"procedure": "f" * 64})
    command = ["seal", str(work), "--procedure", str(PROCEDURE), "--json"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["constrained"] is False
    assert "not the one that zoom_support was compiled from" in shown.err
    assert f"subterra seal {work} --procedure {PROCEDURE} --transitions" in shown.err
    assert main([*command, "--transitions"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["constrained"] is True
    assert "compiled from" not in shown.err
    assert main([*command, "--unconstrained"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["constrained"] is False
    assert "compiled from" not in shown.err


@pytest.mark.parametrize(("measured", "said"), [(True, True), (False, False), (None, False)])
def test_a_report_of_an_agent_that_is_held_is_not_one_of_an_agent_that_is_not(
    work: Path, measured: bool | None, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "report" / "report.json").write_text(json.dumps({"constrained": measured}))
    assert main(["seal", str(work), "--procedure", str(PROCEDURE), "--unconstrained"]) == 0
    assert ("in the report they were held" in capsys.readouterr().err) is said


def test_the_same_input_gives_the_same_bytes(work: Path, tmp_path: Path) -> None:
    one = seal(work, PROCEDURE, KEY, out=tmp_path / "one.agent")
    other = seal(work, PROCEDURE, KEY, out=tmp_path / "other.agent")
    for name in ("manifest.json", "signature"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_variants_and_default_can_be_chosen(work: Path) -> None:
    options = SealOptions(variants=("onnx-int8", "Q4_0"), default_variant="Q4_0")
    manifest = open_bundle(seal(work, PROCEDURE, KEY, options=options)).manifest
    assert [v.name for v in manifest.variants] == ["Q4_0", "onnx-int8"]
    assert manifest.default_variant == "Q4_0"
    with pytest.raises(UsageError, match="variant 'F16' was not made; there are: Q8_0"):
        seal(work, PROCEDURE, KEY, options=SealOptions(variants=("F16",)))
    with pytest.raises(UsageError, match="'Q2_K' is unknown"):
        seal(work, PROCEDURE, KEY, options=SealOptions(variants=("Q2_K",)))
    with pytest.raises(UsageError, match="default variant 'F16' is not sealed"):
        seal(work, PROCEDURE, KEY, options=SealOptions(default_variant="F16"))


def test_the_commitment_is_salted_and_the_salt_stays_at_home(work: Path, home: Path) -> None:
    path = seal(work, PROCEDURE, KEY)
    salt = home / "salts" / "zoom_support.salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    value = open_bundle(path).manifest.commitment.value
    assert value == commit(PROCEDURE, "zoom_support").value
    salt.unlink()
    assert commit(PROCEDURE, "zoom_support").value != value
    for file in path.rglob("*"):
        assert file.is_dir() or salt.read_bytes() not in file.read_bytes()


def test_a_manifest_that_would_show_wording_is_refused(work: Path) -> None:
    wording = max(wordings(PROCEDURE), key=len)
    note = {**NOTE, "system": f"Say: {wording}"}
    (work / "merged" / "subterra.json").write_text(json.dumps(note))
    with pytest.raises(BundleError, match="would disclose the procedure"):
        seal(work, PROCEDURE, KEY)
    assert not (work / "zoom_support.agent").exists()


def test_variants_of_an_earlier_merged_model_are_not_sealed(work: Path) -> None:
    (work / "merged" / "model.safetensors").write_bytes(b"weights")
    record = Record("Q8_0", "llama.cpp", "Q8_0", "Q8_0.gguf", 40, 8.5, 100, "d" * 64, {}, 1.0)
    (work / "variants" / "Q8_0.json").write_text(json.dumps(asdict(record)))
    with pytest.raises(BundleError, match=r"Q8_0 of .* made from another merged model"):
        seal(work, PROCEDURE, KEY)
    fresh = replace(record, checkpoint_sha256=hashlib.sha256(b"weights").hexdigest())
    (work / "variants" / "Q8_0.json").write_text(json.dumps(asdict(fresh)))
    open_bundle(seal(work, PROCEDURE, KEY))


def test_a_base_from_the_hub_keeps_its_id(work: Path) -> None:
    note = {**NOTE, "base": {"id": "an-owner/a-model", "sha256": "a" * 64}}
    (work / "merged" / "subterra.json").write_text(json.dumps(note))
    assert open_bundle(seal(work, PROCEDURE, KEY)).manifest.base.id == "an-owner/a-model"


def test_wording_is_found_in_any_spelling_and_short_names_are_not() -> None:
    found = wordings(PROCEDURE)
    assert found
    assert all(len(text.split()) >= 3 for text in found)
    one = sorted(found)[0]
    assert disclosed(f"x {one.upper().replace(' ', chr(10))} y", found)
    assert not disclosed("You are the Zoom support assistant on this device.", found)


def test_a_failure_leaves_the_old_bundle(work: Path) -> None:
    path = seal(work, PROCEDURE, KEY)
    before = (path / "manifest.json").read_bytes()
    (work / "merged" / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        seal(work, PROCEDURE, KEY)
    assert (path / "manifest.json").read_bytes() == before
    open_bundle(path)
    assert not [entry for entry in work.iterdir() if entry.name.endswith(".part")]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x"}', "\xff"])
def test_a_damaged_note_is_named(work: Path, content: str) -> None:
    (work / "merged" / "subterra.json").write_text(content)
    with pytest.raises((AdapterError, BundleError), match=r"subterra\.json"):
        seal(work, PROCEDURE, KEY)


def test_the_verb_makes_a_key_on_first_use_and_says_so(
    work: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seal", str(work), "--procedure", str(PROCEDURE), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert f"made a signing key at {home / 'signing.key'}" in err
    assert document["bundle"] == str(work / "zoom_support.agent")
    assert "next: subterra prove" in err
    assert main(["verify", document["bundle"]]) == 0
    assert "held to    the legal transitions between 11 nodes" in capsys.readouterr().err
    assert main(["seal", str(work), "--procedure", str(PROCEDURE), "--variant", "Q8_0"]) == 0
    assert "made a signing key" not in capsys.readouterr().err


def test_a_report_that_shows_wording_is_said_aloud(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wording = max(wordings(PROCEDURE), key=len)
    (work / "report" / "report.json").write_text(json.dumps({"transcript": f"a {wording} b"}))
    assert main(["seal", str(work), "--procedure", str(PROCEDURE)]) == 0
    assert "report.json shows 1 wordings of the procedure" in capsys.readouterr().err


def test_a_missing_procedure_ends_in_two_lines(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seal", str(work)]) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if "signing key" not in line]
    assert len(lines) == 2


def test_sealing_into_a_read_only_folder_is_a_resource_error(work: Path) -> None:
    if os.getuid() == 0:
        target = Path("/proc/nowhere.agent")
    else:
        target = work / "locked" / "x.agent"
        target.parent.mkdir(mode=0o500)
    from subterra.runtime.errors import ResourceError

    with pytest.raises(ResourceError):
        seal(work, PROCEDURE, KEY, out=target)
