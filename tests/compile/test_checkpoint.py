"""Checkpoints: all that the next step depends on, and no trust in damage."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from subterra.compile.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from subterra.runtime.errors import ResourceError

FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from subterra.compile.checkpoint import Checkpoint, save_checkpoint
from subterra.runtime.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
big = Checkpoint(1, "a", torch.zeros(1 << 16), {}, {}, [])
try:
    save_checkpoint(Path(sys.argv[1]), big)
except ResourceError as error:
    print("refused:", error.hint)
"""


def checkpoint(step: int = 3) -> Checkpoint:
    return Checkpoint(
        step=step,
        fingerprint="run a",
        parameters=torch.ones(6),
        optimiser={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        best={"a.lora_A.weight": torch.zeros(2, dtype=torch.bfloat16)},
        history=[{"step": 3, "loss": 0.5, "exact": 0.25, "turns": 8}],
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    written = checkpoint()
    save_checkpoint(tmp_path / "c.pt", written)
    found = load_checkpoint(tmp_path / "c.pt", "run a")
    assert found is not None
    assert (found.step, found.optimiser, found.history) == (
        written.step,
        written.optimiser,
        written.history,
    )
    assert torch.equal(found.parameters, written.parameters)
    assert torch.equal(found.best["a.lora_A.weight"], written.best["a.lora_A.weight"])


def test_another_run_does_not_resume_from_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint())
    assert load_checkpoint(tmp_path / "c.pt", "run b") is None


def test_without_a_file_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c.pt", "run a") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage" * 50, b"PK\x03\x04" + b"x" * 400, b"\x80\x02}q\x00."],
)
def test_a_damaged_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    assert load_checkpoint(tmp_path / "c.pt", "run a") is None


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_no_checkpoint(tmp_path: Path, kept: float) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint())
    data = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(data[: int(kept * len(data))])
    assert load_checkpoint(tmp_path / "c.pt", "run a") is None


def test_a_file_with_other_fields_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"step": 1}, tmp_path / "c.pt")
    assert load_checkpoint(tmp_path / "c.pt", "run a") is None
    torch.save([1, 2], tmp_path / "c.pt")
    assert load_checkpoint(tmp_path / "c.pt", "run a") is None


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "c.pt", checkpoint(step))
    found = load_checkpoint(tmp_path / "c.pt", "run a")
    assert found is not None
    assert found.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_what_torch_says_of_a_full_disk_becomes_a_resource_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise RuntimeError("unexpected pos 576 vs 534")

    monkeypatch.setattr(torch, "save", write)
    with pytest.raises(ResourceError, match="unexpected pos") as caught:
        save_checkpoint(tmp_path / "c.pt", checkpoint())
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a file size limit")
def test_a_full_disk_is_a_resource_error_with_a_next_step(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "c.pt")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("refused: ")
    assert list(tmp_path.iterdir()) == []
