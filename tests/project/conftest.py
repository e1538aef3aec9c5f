"""Run the command line as a user does, in a process of its own."""

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from subterra.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
"""What the installed `subterra` script does."""
SECONDS = 300
NOTE = {"name": "zoom_support", "system": "the system", "recipe": "traced", "slots": ["device"]}


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command printed, how it ended, and the CPU time it took, s."""

    code: int
    out: str
    err: str
    cpu_seconds: float


Cli = Callable[..., Finished]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `subterra ARGUMENTS` with settings and cache of its own."""

    def call(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        limit_file_bytes: int | None = None,
    ) -> Finished:
        def limit() -> None:
            if limit_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_bytes, limit_file_bytes))

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*wrapper, sys.executable, "-c", COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=ROOT,
            env={
                **os.environ,
                "SUBTERRA_HOME": str(tmp_path / "home"),
                "SUBTERRA_CACHE": str(tmp_path / "cache"),
                **(env or {}),
            },
            preexec_fn=limit,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Finished(done.returncode, done.stdout, done.stderr, cpu)

    return call


@pytest.fixture(scope="session")
def write_adapter() -> Callable[[Path, Path, int], None]:
    """Write a LoRA adapter of rank 2 for one matrix of the tiny checkpoint."""

    def write(folder: Path, base: Path, seed: int) -> None:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
        weights = {
            f"{name}A.weight": rng.normal(size=(2, 64)).astype(np.float32),
            f"{name}B.weight": rng.normal(size=(64, 2)).astype(np.float32),
        }
        save_file(weights, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
        digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
        card = {**NOTE, "base": {"id": "tiny", "sha256": digest}}
        (folder / "subterra.json").write_text(json.dumps(card))

    return write
