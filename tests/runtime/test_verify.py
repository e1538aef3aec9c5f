"""`subterra verify` says who signed and how that is known."""

import hashlib
import json
from pathlib import Path

import pytest

from subterra.runtime.cli import main
from subterra.runtime.manifest import Base, Commitment, Manifest, Teacher, Variant
from subterra.runtime.signing import SigningKey


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SigningKey:
    monkeypatch.setenv("SUBTERRA_HOME", str(tmp_path / "home"))
    return SigningKey.generate()


@pytest.fixture
def agent(tmp_path: Path, key: SigningKey) -> Path:
    folder = tmp_path / "toy.agent"
    folder.mkdir()
    contents = {"tokenizer.json": b"{}", "model-Q8_0.gguf": b"GGUF"}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        name="toy",
        title="A toy",
        base=Base(id="tiny", sha256="a" * 64),
        adapter_sha256="b" * 64,
        recipe="plain",
        system="You are a toy.",
        slots=(),
        commitment=Commitment(value="c" * 64),
        teacher=Teacher(kind="endpoint", disclosed_to=("models.example",)),
        variants=(
            Variant(
                name="Q8_0",
                engine="llama.cpp",
                quantization="Q8_0",
                path="model-Q8_0.gguf",
                bytes=4,
            ),
        ),
        default_variant="Q8_0",
        end_of_turn_id=2,
        context_tokens=2048,
        max_reply_tokens=256,
        tools={},
        seeds={},
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    (folder / "signature").write_bytes(key.sign(manifest.to_bytes()))
    return folder


def test_without_a_key_it_says_that_the_origin_is_not_proven(
    agent: Path, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(agent), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["verified"]
    assert document["origin"] == "embedded"
    assert document["key_id"] == key.public.key_id
    assert key.public.fingerprint in err
    assert "by whom is for you to compare" in err
    assert "the procedure was sent to models.example" in err
    assert f"next: subterra prove {agent}" in err


def test_with_the_authors_key_it_says_so(
    agent: Path, key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key.save(tmp_path / "author")
    pinned = str(tmp_path / "author" / "signing.pub")
    assert main(["verify", str(agent), "--key", pinned, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["origin"] == "pinned"


def test_another_key_is_refused(
    agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SigningKey.generate().save(tmp_path / "stranger")
    assert main(["verify", str(agent), "--key", str(tmp_path / "stranger" / "signing.pub")]) == 5
    assert "sealed with key" in capsys.readouterr().err


def test_the_machines_own_key_is_recognised(
    agent: Path, key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key.save(tmp_path / "home")
    assert main(["verify", str(agent)]) == 0
    assert "this machine's own key" in capsys.readouterr().err


def test_an_allowed_unsigned_bundle_is_called_unsigned(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (agent / "signature").unlink()
    assert main(["verify", str(agent), "--allow-unsigned", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["verified"] is False
    assert "anybody may have changed" in err
