"""Abuse: files are added, removed, swapped, linked, or replaced by special files."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from subterra.runtime.bundle import open_bundle
from subterra.runtime.cli import main
from subterra.runtime.errors import BundleError, SignatureError
from subterra.runtime.signing import SigningKey


def test_the_untouched_agent_opens(agent: Any) -> None:
    bundle = open_bundle(agent.path, key=agent.key.public)
    assert bundle.pinned
    assert bundle.signer == agent.key.public
    assert bundle.variant_path() == agent.path / "model-Q8_0.gguf"
    assert bundle.variant("onnx-int8").engine == "onnxruntime"
    assert bundle.tokenizer == agent.path / "tokenizer.json"


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "onnx-int8/extra", "sub/extra", "empty/"])
def test_an_extra_file_or_folder_is_refused(agent: Any, name: str) -> None:
    extra: Path = agent.path / name
    if name.endswith("/"):
        extra.mkdir()
    else:
        extra.parent.mkdir(exist_ok=True)
        extra.write_text("x")
    with pytest.raises(BundleError, match="not part of the sealed agent"):
        open_bundle(agent.path)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "onnx-int8/model.onnx"])
def test_a_missing_file_is_named(agent: Any, name: str) -> None:
    (agent.path / name).unlink()
    with pytest.raises(BundleError, match=Path(name).name):
        open_bundle(agent.path)


@pytest.mark.parametrize(
    "name", ["manifest.json", "signature", "model-Q8_0.gguf", "onnx-int8/model.onnx"]
)
def test_a_link_with_the_right_content_is_refused(agent: Any, name: str, tmp_path: Path) -> None:
    path: Path = agent.path / name
    shutil.copyfile(path, tmp_path / "same")
    path.unlink()
    path.symlink_to(tmp_path / "same")
    with pytest.raises(BundleError, match="link"):
        open_bundle(agent.path)


def test_a_linked_folder_inside_is_refused(agent: Any, tmp_path: Path) -> None:
    shutil.move(agent.path / "onnx-int8", tmp_path / "elsewhere")
    (agent.path / "onnx-int8").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link"):
        open_bundle(agent.path)


def test_a_linked_bundle_is_refused(agent: Any, tmp_path: Path) -> None:
    (tmp_path / "link.agent").symlink_to(agent.path)
    with pytest.raises(BundleError, match="not a folder"):
        open_bundle(tmp_path / "link.agent")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in the file system")
@pytest.mark.parametrize("name", ["manifest.json", "signature", "tokenizer.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_does_not_hang(agent: Any, name: str) -> None:
    (agent.path / name).unlink()
    os.mkfifo(agent.path / name)
    with pytest.raises(BundleError):
        open_bundle(agent.path)


def test_swapped_files_are_refused(agent: Any) -> None:
    one, other = agent.path / "tokenizer.json", agent.path / "model-Q8_0.gguf"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(BundleError, match="does not match"):
        open_bundle(agent.path)


def test_a_manifest_above_the_limit_is_not_parsed(agent: Any) -> None:
    with (agent.path / "manifest.json").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(BundleError, match="larger than"):
        open_bundle(agent.path)


def test_an_unsigned_bundle_needs_the_explicit_word(agent: Any) -> None:
    (agent.path / "signature").unlink()
    with pytest.raises(SignatureError, match="not signed"):
        open_bundle(agent.path)
    assert open_bundle(agent.path, allow_unsigned=True).signer is None
    with pytest.raises(SignatureError, match="not signed"):
        open_bundle(agent.path, key=agent.key.public, allow_unsigned=True)


def test_allowing_unsigned_does_not_allow_a_wrong_signature(agent: Any) -> None:
    (agent.path / "signature").write_bytes(agent.key.sign(b"something else"))
    with pytest.raises(SignatureError, match="does not fit"):
        open_bundle(agent.path, allow_unsigned=True)


def test_another_authors_signature_is_refused_when_a_key_is_pinned(agent: Any) -> None:
    data = (agent.path / "manifest.json").read_bytes()
    (agent.path / "signature").write_bytes(SigningKey.generate().sign(data))
    assert not open_bundle(agent.path).pinned
    with pytest.raises(SignatureError, match="sealed with key"):
        open_bundle(agent.path, key=agent.key.public)


@pytest.mark.parametrize("damage", ["corrupt", "unsigned", "missing", "truncated", "file"])
def test_a_bad_bundle_ends_in_two_lines_and_code_5(
    agent: Any, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = agent.path / "model-Q8_0.gguf", agent.path
    if damage == "corrupt":
        model.write_bytes(bytes(64))
    elif damage == "truncated":
        model.write_bytes(model.read_bytes()[:10])
    elif damage == "unsigned":
        (agent.path / "signature").unlink()
    else:
        target = model if damage == "file" else tmp_path / "no such.agent"
    assert main(["verify", str(target)]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert err.splitlines()[1].startswith("  next: ")
