"""A team of processes: the same gradient as one process gives, and no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch

from subterra.compile.batches import Group
from subterra.compile.learner import Learner
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import encode
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.team import Team, gather, team_size
from subterra.compile.user_bank import UserBank
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.errors import ResourceError

SETTINGS = TrainSettings(rank=4, neftune=0.0)

ALIVE = """
import sys, time
from pathlib import Path
from subterra.compile.learner import Learner
from subterra.compile.settings import TrainSettings
from subterra.compile.team import gather
from subterra.models.resolve import resolve_base
base = resolve_base(sys.argv[1])
with gather(Learner(base, TrainSettings()), base, TrainSettings(), size=2):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path) -> Base:
    return resolve_base(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def group(kettle: Procedure, kettle_bank: UserBank, tiny_checkpoint: Path, base: Base) -> Group:
    tokenizer = ChatTokenizer(tiny_checkpoint, ChatFormat(system=kettle.system))
    source = islice(dialogues(kettle, kettle_bank, 0), 5)
    return [encode(d, tokenizer, "traced", kettle.slot_names) for d in source]


@pytest.fixture(scope="module")
def learner(base: Base) -> Learner:
    return Learner(base, SETTINGS)


@pytest.fixture(scope="module")
def team(learner: Learner, base: Base) -> Iterator[Team]:
    with gather(learner, base, SETTINGS, size=2) as team:
        yield team


def total(group: Group) -> float:
    weights = SETTINGS.weights.by_kind()
    return sum(weights[kind] for encoded in group for kind in encoded.kinds)


def test_two_processes_give_the_gradient_of_one(learner: Learner, team: Team, group: Group) -> None:
    with torch.no_grad():
        learner.flat.values += 0.01  # LoRA's B begins at 0, and so would the gradient of A
    alone = Team(learner).learn(group, 1, total(group))
    expected = learner.flat.gradient.clone()
    together = team.learn(group, 1, total(group))
    assert team.size == 2
    assert together == pytest.approx(alone, rel=2e-3)
    assert expected.norm() > 0
    difference = (learner.flat.gradient - expected).norm() / expected.norm()
    assert difference < 0.02  # bf16


def test_two_processes_count_what_one_counts(learner: Learner, team: Team, group: Group) -> None:
    halves = [group[:2], group[2:4], group[4:]]
    alone, together = Team(learner).read(halves), team.read(halves)
    assert (together.turns, together.tokens) == (alone.turns, alone.tokens)
    assert alone.turns > 5
    assert together.loss == pytest.approx(alone.loss, rel=2e-3)


def test_a_group_smaller_than_the_team_is_learnt(
    learner: Learner, team: Team, group: Group
) -> None:
    alone = Team(learner).learn(group[:1], 1, total(group[:1]))
    assert team.learn(group[:1], 1, total(group[:1])) == alone


def test_a_dead_process_is_a_resource_error_with_a_next_step(base: Base, group: Group) -> None:
    learner, before = Learner(base, SETTINGS), set(psutil.Process().children())
    with gather(learner, base, SETTINGS, size=2) as team:
        for child in set(psutil.Process().children()) - before:
            child.kill()
        with pytest.raises(ResourceError, match="ended with exit status -9") as caught:
            team.learn(group, 1, total(group))
    assert "--processes 1" in (caught.value.hint or "")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("shm")])
def test_what_does_not_start_is_a_resource_error_and_leaves_no_process(
    base: Base, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(psutil.Process().children(recursive=True))
    share, shared = torch.Tensor.share_memory_, list[torch.Tensor]()

    def full(tensor: torch.Tensor) -> torch.Tensor:
        shared.append(tensor)
        if len(shared) > 3:  # the second process's gradient
            raise error
        return share(tensor)  # type: ignore[no-untyped-call, no-any-return]

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with (
        pytest.raises(ResourceError, match="cannot start a training process") as caught,
        gather(Learner(base, SETTINGS), base, SETTINGS, size=3),
    ):
        pytest.fail("the team is not whole")
    assert "--processes 1" in (caught.value.hint or "")
    left = [c for c in set(psutil.Process().children(recursive=True)) - before if c.is_running()]
    assert not [child for child in left if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_no_process_outlives_a_killed_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "alive.py"
    script.write_text(f"if __name__ == '__main__':\n    exec({ALIVE!r})\n")
    command = [sys.executable, str(script), str(tiny_checkpoint)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    children = psutil.Process(run.pid).children(recursive=True)
    assert any("spawn_main" in " ".join(child.cmdline()) for child in children)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    limit = time.monotonic() + 20
    while any(child.is_running() for child in children) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(child.is_running() for child in children)


def test_the_team_is_as_large_as_cores_batch_and_memory_allow() -> None:
    assert team_size(0, batch=4, cores=2, vector_bytes=1 << 10) == 2
    assert team_size(0, batch=4, cores=16, vector_bytes=1 << 10) == 4
    assert team_size(1, batch=4, cores=16, vector_bytes=1 << 10) == 1
    assert team_size(3, batch=4, cores=2, vector_bytes=1 << 10) == 3
    assert team_size(0, batch=4, cores=4, vector_bytes=1 << 60) == 1
