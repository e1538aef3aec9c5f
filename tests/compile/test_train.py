"""Training: it learns, it is deterministic, and a run that died goes on as if it had not."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from subterra.compile.card import ADAPTER_FILE, FULL_FILE, read_card
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import RECIPES, Recipe
from subterra.compile.settings import TrainSettings
from subterra.compile.team import team_size
from subterra.compile.train import Job, _schedule, train
from subterra.compile.user_bank import UserBank
from subterra.models.resolve import resolve_base
from subterra.runtime.threads import usable_threads

QUICK = TrainSettings(
    dialogues=12, batch=2, rank=4, validations=3, validation_dialogues=4, checkpoint_seconds=0.0
)
MakeJob = Callable[..., Job]

TRAIN = """
import sys
from pathlib import Path
from subterra.compile.settings import TrainSettings
from subterra.compile.train import Job, train
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure
from subterra.models.resolve import resolve_base
folder, base, out = map(Path, sys.argv[1:])
procedure = load_procedure(folder)
bank = load_bank(folder / "users" / "train.yaml", procedure)
settings = TrainSettings(
    dialogues=60, batch=2, rank=4, validations=3, validation_dialogues=4, checkpoint_seconds=0.0
)
train(Job(base=resolve_base(str(base)), procedure=procedure, bank=bank, out=out, settings=settings))
"""


@pytest.fixture(scope="module")
def make_job(
    tiny_checkpoint: Path,
    kettle: Procedure,
    kettle_bank: UserBank,
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeJob:
    def make_job(name: str, settings: TrainSettings = QUICK, **fields: object) -> Job:
        job = Job(
            base=resolve_base(str(tiny_checkpoint)),
            procedure=kettle,
            bank=kettle_bank,
            out=tmp_path_factory.mktemp(name) / "adapter",
            settings=settings,
            report=lambda _: None,
        )
        return replace(job, **fields)  # type: ignore[arg-type]

    return make_job


@pytest.fixture(scope="module")
def whole(make_job: MakeJob) -> Path:
    """Return the adapter of a quick run in one go."""
    return train(make_job("whole", card={"inputs": {"users": "ab"}}))


def weights(folder: Path) -> bytes:
    return (folder / ADAPTER_FILE).read_bytes()


class Died(Exception):  # noqa: N818 - no error of the code under test
    """What ends a run in the middle."""


def dying_after(validations: int) -> Callable[[str], None]:
    left = [validations]

    def report(line: str) -> None:
        left[0] -= line.startswith("validation")
        if left[0] == 0:
            raise Died

    return report


@pytest.mark.parametrize("died_at", [1, 3])
def test_a_run_that_died_and_was_resumed_gives_the_same_bytes(
    make_job: MakeJob, whole: Path, died_at: int
) -> None:
    job = make_job("died")
    with pytest.raises(Died):
        train(replace(job, report=dying_after(died_at)))
    assert not job.out.exists()
    lines: list[str] = []
    resumed = train(replace(job, report=lines.append))
    assert lines[0] == f"resuming at step {2 * died_at - 1} of 6"
    assert weights(resumed) == weights(whole)
    old, new = read_card(whole), read_card(resumed)
    assert (old["validation"], old["chosen_step"]) == (new["validation"], new["chosen_step"])


def test_a_finished_run_leaves_no_checkpoint(whole: Path) -> None:
    assert [path.name for path in whole.parent.iterdir()] == ["adapter"]


def test_a_checkpoint_of_other_settings_is_not_resumed(make_job: MakeJob) -> None:
    job = make_job("changed")
    with pytest.raises(Died):
        train(replace(job, report=dying_after(2)))
    lines: list[str] = []
    other = replace(job, settings=replace(QUICK, seed=5), report=lines.append)
    train(other)
    assert not any("resuming" in line for line in lines)


def test_a_damaged_checkpoint_is_passed_over(make_job: MakeJob, whole: Path) -> None:
    job = make_job("damaged")
    (job.out.parent / ".adapter.checkpoint.pt").write_bytes(b"garbage" * 20)
    assert weights(train(job)) == weights(whole)


def test_another_seed_trains_another_adapter(make_job: MakeJob, whole: Path) -> None:
    assert weights(train(make_job("other", replace(QUICK, seed=5)))) != weights(whole)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_loss(make_job: MakeJob, recipe: Recipe) -> None:
    settings = replace(QUICK, recipe=recipe, dialogues=60, learning_rate=2e-2)
    card = read_card(train(make_job(recipe, settings)))
    losses = [entry["loss"] for entry in card["validation"]]
    assert losses[-1] < 0.9 * losses[0]
    assert card["recipe"] == recipe


def test_full_training_writes_all_weights_and_is_deterministic(
    make_job: MakeJob, tiny_checkpoint: Path
) -> None:
    from safetensors.torch import load_file

    settings = replace(QUICK, method="full")
    first, second = (train(make_job(name, settings)) for name in ("first", "second"))
    assert (first / FULL_FILE).read_bytes() == (second / FULL_FILE).read_bytes()
    trained, base = load_file(first / FULL_FILE), load_file(tiny_checkpoint / FULL_FILE)
    assert trained.keys() == base.keys()
    assert all(trained[name].shape == base[name].shape for name in base)
    assert any(not torch.equal(trained[name].float(), base[name]) for name in base)


def test_the_card_says_what_the_adapter_was_made_from(
    whole: Path, tiny_checkpoint: Path, kettle: Procedure
) -> None:
    base = resolve_base(str(tiny_checkpoint))
    card = read_card(whole)
    assert card["base"] == {"id": base.id, "sha256": base.sha256}
    assert (card["name"], card["system"]) == (kettle.name, kettle.system)
    assert card["slots"] == ["fault", "owner"]
    assert card["inputs"] == {"users": "ab"}
    assert card["processes"] == team_size(0, QUICK.batch, usable_threads(), 1)
    assert card["settings"] == json.loads(json.dumps(asdict(QUICK) | {"learning_rate": 1e-3}))
    assert [entry["step"] for entry in card["validation"]] == [2, 4, 6]
    best = max(card["validation"], key=lambda entry: (entry["exact"], -entry["loss"]))
    assert card["chosen_step"] == best["step"]


def test_no_path_of_this_machine_stands_in_the_adapter_folder(
    whole: Path, tiny_checkpoint: Path
) -> None:
    for file in whole.rglob("*"):
        content = file.read_bytes()
        assert str(tiny_checkpoint).encode() not in content
        assert str(whole.parent).encode() not in content


def test_the_rate_rises_and_falls_to_its_floor() -> None:
    rates = [_schedule(i / 100, 0.1, 0.02) for i in range(101)]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(1)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
    assert all(math.isfinite(rate) for rate in rates)


@pytest.mark.slow
def test_a_run_killed_by_the_kernel_is_resumed_to_the_same_bytes(
    kettle_folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TRAIN, str(kettle_folder), str(tiny_checkpoint)]
    whole, killed = tmp_path / "whole" / "adapter", tmp_path / "killed" / "adapter"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)

    mark = killed.parent / ".adapter.checkpoint.pt"
    kills = 0
    for writes in (3, 6):  # it dies twice, later the second time
        run = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
        seen: set[int] = set()
        while len(seen) < writes and run.poll() is None:
            if mark.exists():
                seen.add(mark.stat().st_mtime_ns)
            time.sleep(0.002)
        os.kill(run.pid, signal.SIGKILL)
        kills += run.wait() == -signal.SIGKILL
        assert not killed.exists()
    assert kills == 2
    last = subprocess.run([*command, str(killed)], check=True, capture_output=True, text=True)
    assert "resuming at step" in last.stderr
    assert weights(killed) == weights(whole)
