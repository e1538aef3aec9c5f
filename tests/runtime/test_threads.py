"""The thread count follows affinity and control group quotas, never the bare CPU count."""

import os
from pathlib import Path

import pytest

from subterra.runtime.threads import usable_threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "root/app").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/app\n")
    return tmp_path


def threads(machine: Path) -> int:
    return usable_threads(root=machine / "root", membership=machine / "cgroup")


def test_without_a_quota_the_affinity_counts(machine: Path) -> None:
    assert threads(machine) == 8
    (machine / "root/app/cpu.max").write_text("max 100000\n")
    assert threads(machine) == 8


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2), ("50000", 1), ("1600000", 8)])
def test_a_quota_is_rounded_down_but_never_to_zero(
    machine: Path, quota: str, expected: int
) -> None:
    (machine / "root/app/cpu.max").write_text(f"{quota} 100000\n")
    assert threads(machine) == expected


def test_the_quota_of_a_parent_group_counts(machine: Path) -> None:
    (machine / "cgroup").write_text("0::/app/inner\n")
    (machine / "root/app/inner").mkdir()
    (machine / "root/app/cpu.max").write_text("300000 100000\n")
    assert threads(machine) == 3


def test_in_a_container_the_root_group_counts(machine: Path) -> None:
    (machine / "cgroup").write_text("0::/\n")
    (machine / "root/cpu.max").write_text("400000 100000\n")
    assert threads(machine) == 4


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_a_version_1_quota_counts(machine: Path, folder: str) -> None:
    (machine / "cgroup").write_text("4:memory:/x\n3:cpu,cpuacct:/app\n")
    group = machine / "root" / folder / "app"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("350000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert threads(machine) == 3
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads(machine) == 8


@pytest.mark.parametrize("text", ["", "garbage", "0::", "a:b:c:d\n", "0::/../../etc"])
def test_an_unreadable_control_group_is_no_limit(machine: Path, text: str) -> None:
    (machine / "cgroup").write_text(text)
    (machine / "root/app/cpu.max").write_text("rubbish")
    assert threads(machine) == 8
