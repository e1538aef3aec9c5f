"""How many threads an engine may use on this machine.

Goes in: nothing (the scheduler and the control groups are asked). Comes out: a count of at least 1.
More threads than the real budget is the worst case: on 2 cores a 135M model writes 115, 35 and 20
tokens/s with 2, 4 and 8 threads. Does not know engines.

    >>> usable_threads() >= 1
    True
"""

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_threads(*, root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """Smaller of the CPU affinity and the control group's quota, rounded down, at least 1."""
    limits = [_affinity(), *_quotas(root, membership)]
    return max(1, int(min(limits)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, membership: Path) -> list[float]:
    """CPUs granted by every group from the process's own up to the root, v2 and v1."""
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            bases, read = [root], _quota_v2
        elif "cpu" in controllers.split(","):
            bases, read = [root / controllers, root / "cpu"], _quota_v1
        else:
            continue
        for base in bases:
            folder = base / group.lstrip("/")
            ancestors = [base, *(f for f in (folder, *folder.parents) if base in f.parents)]
            quotas += [quota for f in ancestors if (quota := read(f)) is not None]
    return quotas


def _quota_v2(folder: Path) -> float | None:
    """Read `cpu.max`: "max 100000" or "200000 100000" (quota and period in microseconds)."""
    return _ratio(*[*_read(folder / "cpu.max").split(), "", ""][:2])


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        granted, interval = int(quota), int(period)
    except ValueError:
        return None
    return granted / interval if granted > 0 and interval > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
