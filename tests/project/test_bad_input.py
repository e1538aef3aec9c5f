"""What a user can get wrong: two lines on stderr, a code, no traceback."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subterra.models.catalogue import catalogue
from subterra.runtime.manifest import Base, Commitment, Manifest, Teacher, Variant
from subterra.runtime.signing import SigningKey

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "zoom_support"
PROCEDURE = EXAMPLE / "procedure.yaml"
BASE = "smollm2-135m-instruct"
MOUNT = 'mount -t tmpfs -o "$1" none "$2" || exit 99; shift 2; exec "$@"'
Cli = Callable[..., Any]


def assert_two_lines(run: Any, code: int, *words: str) -> None:
    """Check the two lines: what happened (with these words), and what to do next."""
    assert run.code == code, run.err
    what, following = run.err.splitlines()
    assert what.startswith("subterra: ")
    assert following.startswith("  next: ")
    assert len(following) > len("  next: ")
    for word in words:
        assert word.lower() in what.lower()
    assert run.out == ""


def isolated(*words: str) -> list[str]:
    """Return a wrapper that runs a command in namespaces of its own, or skip the test."""
    for who in ([], ["--map-root-user"]):
        wrapper = ["unshare", *who, *words]
        try:
            if subprocess.run([*wrapper, "true"], capture_output=True).returncode == 0:
                return wrapper
        except FileNotFoundError:
            break
    pytest.skip(f"this system does not allow unshare {' '.join(words)}")


def mounted(folder: Path, options: str) -> list[str]:
    """Return a wrapper under which `folder` is a small or read-only file system, or skip."""
    folder.mkdir(exist_ok=True)
    wrapper = [*isolated("--mount"), "sh", "-c", MOUNT, "sh", options, str(folder)]
    if subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow mounting a tmpfs")
    return wrapper


# Procedures and banks


@pytest.mark.parametrize("verb", [["show"], ["compile"], ["build"]])
def test_broken_yaml(cli: Cli, tmp_path: Path, verb: list[str]) -> None:
    path = tmp_path / "procedure.yaml"
    path.write_text("name: [zoom\n")
    assert_two_lines(cli(*verb, path), 3, f"{path}:2:1:", "broken YAML")


def test_an_unknown_key(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "procedure.yaml"
    path.write_text(PROCEDURE.read_text().replace("\ntitle:", "\ntittle:", 1))
    assert_two_lines(cli("show", path), 3, "unknown key 'tittle'", "did you mean 'title'?")


def test_several_problems_are_listed_together_with_one_next_step(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "procedure.yaml"
    text = PROCEDURE.read_text().replace("\ntitle:", "\ntittle:", 1)
    path.write_text(text.replace("\nstart: ", "\nstart: no_such_", 1))
    run = cli("show", path)
    first, *listed, following = run.err.splitlines()
    assert run.code == 3
    assert first == f"subterra: {path} has {len(listed)} problems"
    assert len(listed) >= 2
    assert all(line.startswith(f"{path}:") for line in listed)
    assert following.startswith("  next: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: x\ntitle: X\nsystem: You are x.\nstart: a\nnodes: {}\n",
            "the procedure has no nodes",
        ),
        ("", "the procedure is empty"),
    ],
)
def test_a_procedure_without_nodes(cli: Cli, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "procedure.yaml"
    path.write_text(text)
    assert_two_lines(cli("show", path), 3, words)


@pytest.mark.parametrize("text", ["", "{}\n"])
def test_an_empty_bank(cli: Cli, tmp_path: Path, text: str) -> None:
    bank = tmp_path / "train.yaml"
    bank.write_text(text)
    run = cli("compile", EXAMPLE, "--users", bank, "--out", tmp_path / "work")
    assert_two_lines(run, 3, f"{bank}:1:1:", "the bank is empty")
    assert not (tmp_path / "work").exists()


def test_an_empty_bank_to_score_with(cli: Cli, tmp_path: Path) -> None:
    bank = tmp_path / "heldout.yaml"
    bank.write_text("")
    run = cli("score", tmp_path, "--users", bank, "--procedure", PROCEDURE)
    assert_two_lines(run, 3, "the bank is empty")


# Base models and adapters


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint folder with one tensor; whoever only compares digests reads no more."""
    from safetensors.numpy import save

    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    weights = {"model.norm.weight": np.ones(4, np.float16)}
    (folder / "model.safetensors").write_bytes(save(weights))
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a work folder with an adapter for the packaged base; its weights are never read."""
    adapter = tmp_path / "work" / "adapter"
    adapter.mkdir(parents=True)
    card = {"base": {"id": BASE, "sha256": "a" * 64}}
    (adapter / "subterra.json").write_text(json.dumps(card))
    (adapter / "adapter_model.safetensors").write_bytes(b"any")
    return tmp_path / "work"


def test_an_adapter_for_another_base(cli: Cli, work: Path, checkpoint: Path) -> None:
    run = cli("merge", work, "--base", checkpoint)
    assert_two_lines(run, 4, f"was trained on {BASE}", f"not on {checkpoint.name}")
    assert not (work / "merged").exists()


@pytest.mark.parametrize(("size", "words"), [(1000, "truncated or changed"), (None, "has sha256 ")])
def test_a_truncated_or_changed_base(
    cli: Cli, work: Path, tmp_path: Path, size: int | None, words: str
) -> None:
    model = catalogue()[BASE]
    package = tmp_path / "site" / model.module
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with (package / model.file).open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size or model.bytes)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    run = cli("merge", work, env={"PYTHONPATH": path})
    assert_two_lines(run, 4, str(package / model.file), words)
    assert "pip install" in run.err
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_no_network_where_a_hub_id_is_named(cli: Cli, work: Path, tmp_path: Path) -> None:
    run = cli(
        *("merge", work, "--base", "an-owner/a-model"),
        env={"HF_HOME": str(tmp_path / "hub")},
        wrapper=isolated("--net"),
    )
    assert_two_lines(run, 4, "cannot fetch 'an-owner/a-model'", "no network")
    assert BASE in run.err


# Disks


def test_a_full_disk_while_writing_dialogues(cli: Cli, tmp_path: Path) -> None:
    small = tmp_path / "small"
    run = cli(
        "compile",
        EXAMPLE,
        *("--dialogues-only", "--out", small / "work"),
        wrapper=mounted(small, "size=64k"),
    )
    assert_two_lines(run, 7, "no space left", "train.jsonl")


def test_a_file_size_limit_is_a_full_disk_to_the_user(cli: Cli, tmp_path: Path) -> None:
    run = cli(
        "compile",
        EXAMPLE,
        *("--dialogues-only", "--out", tmp_path / "work"),
        limit_file_bytes=4096,
    )
    assert_two_lines(run, 7, "cannot write", "File too large")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_full_disk_below_the_cache(cli: Cli, work: Path, tmp_path: Path) -> None:
    cache = tmp_path / "small"
    wrapper = mounted(cache, "size=4m")
    run = cli("merge", work, env={"SUBTERRA_CACHE": str(cache)}, wrapper=wrapper)
    assert_two_lines(run, 7, "no space left", str(cache))


@pytest.mark.slow
def test_a_full_disk_while_merging(
    cli: Cli, tmp_path: Path, tiny_checkpoint: Path, write_adapter: Callable[..., None]
) -> None:
    write_adapter(tmp_path / "adapter", tiny_checkpoint, 1)
    small = tmp_path / "small"
    run = cli(
        *("merge", small, "--adapter", tmp_path / "adapter", "--base", tiny_checkpoint),
        wrapper=mounted(small, "size=64k"),
    )
    assert_two_lines(run, 7, "no space left", "merged")


def test_a_read_only_cache(cli: Cli, work: Path, tmp_path: Path) -> None:
    cache = tmp_path / "locked"
    wrapper: Sequence[str] = ()
    if os.getuid() == 0:
        wrapper = mounted(cache, "ro")
    else:
        cache.mkdir(mode=0o500)
    run = cli("merge", work, env={"SUBTERRA_CACHE": str(cache)}, wrapper=wrapper)
    assert_two_lines(run, 7, "cannot write", str(cache))
    assert "SUBTERRA_CACHE" in run.err


def test_a_read_only_work_folder(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    wrapper: Sequence[str] = ()
    if os.getuid() == 0:
        wrapper = mounted(folder, "ro")
    else:
        folder.mkdir(mode=0o500)
    run = cli("build", EXAMPLE, "--out", folder / "work", wrapper=wrapper)
    assert_two_lines(run, 7, "cannot write", str(folder))


# Sealed agents


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Return a sealed agent whose model is not a model; verification comes before any engine."""
    folder = tmp_path / "toy.agent"
    folder.mkdir()
    contents = {"tokenizer.json": b"{}", "model-Q8_0.gguf": b"GGUF" + bytes(60)}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        name="toy",
        title="A toy",
        base=Base(id="tiny", sha256="a" * 64),
        adapter_sha256="b" * 64,
        recipe="traced",
        system="You are a toy.",
        slots=("issue",),
        commitment=Commitment(value="c" * 64),
        teacher=Teacher(kind="bank"),
        variants=(
            Variant(
                name="Q8_0",
                engine="llama.cpp",
                quantization="Q8_0",
                path="model-Q8_0.gguf",
                bytes=64,
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
    data = manifest.to_bytes()
    (folder / "manifest.json").write_bytes(data)
    (folder / "signature").write_bytes(SigningKey(bytes(32)).sign(data))
    return folder


RUNS = (["verify"], ["chat", "--plain"], ["prove"])


def test_the_agent_of_these_tests_verifies(cli: Cli, agent: Path) -> None:
    assert cli("verify", agent).code == 0


@pytest.mark.parametrize("verb", RUNS, ids=lambda verb: verb[0])
def test_a_corrupted_bundle(cli: Cli, agent: Path, verb: list[str]) -> None:
    model = agent / "model-Q8_0.gguf"
    model.write_bytes(model.read_bytes()[:-1] + b"\x01")
    assert_two_lines(cli(*verb, agent), 5, "'model-Q8_0.gguf' does not match its digest")


@pytest.mark.parametrize("verb", RUNS, ids=lambda verb: verb[0])
def test_an_unsigned_bundle(cli: Cli, agent: Path, verb: list[str]) -> None:
    (agent / "signature").unlink()
    assert_two_lines(cli(*verb, agent), 5, f"{agent} is not signed")


def test_a_bundle_with_a_manifest_changed_after_sealing(cli: Cli, agent: Path) -> None:
    manifest = agent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"A toy", b"A tox"))
    assert_two_lines(cli("verify", agent), 5, "the signature does not fit manifest.json")


def test_a_bundle_that_is_missing_or_half_copied(cli: Cli, agent: Path) -> None:
    (agent / "tokenizer.json").unlink()
    assert_two_lines(cli("verify", agent), 5, "'tokenizer.json' is missing")
    shutil.rmtree(agent)
    assert_two_lines(cli("verify", agent), 5, f"there is no bundle at {agent}")


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        (["merge"], 4),
        (["quantize"], 4),
        (["report", "--dialogues", "none.jsonl"], 4),
        (["seal", "--procedure", str(PROCEDURE)], 4),
        (["score", "--users", str(EXAMPLE / "users" / "heldout.yaml")], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_work_folder_that_is_not_there(
    cli: Cli, tmp_path: Path, verb: list[str], code: int
) -> None:
    assert_two_lines(cli(*verb, tmp_path / "nowhere"), code, str(tmp_path / "nowhere"))
