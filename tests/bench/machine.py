"""The machine under a benchmark: what it is, how busy it is, whether its figures may be published.

Goes in: nothing (the kernel is asked). Comes out: a description, and a refusal when others compete
for the cores. Does not know what is measured.

    >>> watch = start(parser.parse_args())
    >>> sys.exit(watch.publish("train_throughput", table, result))
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from subterra.runtime.threads import usable_threads

BUSY = 75
"""Exit code when the machine is busy (EX_TEMPFAIL of sysexits.h)."""
SETTLE_SECONDS = 90
"""How long to wait for the load of whatever ran before to fade; its average covers a minute."""
DISTURBANCE = 0.25
"""Cores that others may take from the benchmark; a desktop that idles takes less."""
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where figures come from."""

    processor: str
    flags: tuple[str, ...]
    """Instruction sets that matter here."""
    cores: int
    threads: int
    """Threads that the benchmark may use: affinity and quota."""
    system: str
    load_average: float
    """Runnable tasks in the minute before the benchmark."""

    def line(self) -> str:
        """Describe the machine for people."""
        flags = " ".join(self.flags) or "none of " + " ".join(FLAGS)
        return (
            f"{self.processor} ({flags}), {self.cores} cores, {self.threads} threads used,"
            f" {self.system}, load {self.load_average:.2f} before"
        )


class Watch:
    """Follows a benchmark from start to end."""

    def __init__(self, machine: Machine, *, anyway: bool) -> None:
        self._machine = machine
        self._anyway = anyway
        self._start = _Reading.now()

    def publish(self, bench: str, table: str, result: Mapping[str, object]) -> int:
        """Print the table, and the JSON line unless the machine was busy; return the exit code."""
        machine = self._machine
        others = self._start.others_until(_Reading.now())
        room = machine.cores - machine.threads + DISTURBANCE
        busy = machine.load_average > machine.cores or (others is not None and others > room)
        taken = "not measured" if others is None else f"{others:.2f} cores"
        print(f"{table}\n{machine.line()}, others took {taken}", file=sys.stderr)
        if busy:
            print("machine busy: these figures are not to be published", file=sys.stderr)
            if not self._anyway:
                return BUSY
        document = {
            "bench": bench,
            **result,
            "machine": asdict(machine),
            "others_cores": None if others is None else round(others, 2),
            "machine_busy": busy,
        }
        print(json.dumps(document, ensure_ascii=False))
        return 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """Seconds of processor time spent so far."""

    clock: float
    own: float
    """By this process and the children it has waited for."""
    all: float | None
    """By everybody, time that a hypervisor took included; None where the kernel does not tell."""

    @classmethod
    def now(cls) -> "_Reading":
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return cls(time.monotonic(), own, _seconds_of_all())

    def others_until(self, end: "_Reading") -> float | None:
        """Cores that other processes kept busy, on average."""
        if self.all is None or end.all is None:
            return None
        spent = (end.all - self.all) - (end.own - self.own)
        return max(0.0, spent / (end.clock - self.clock))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every benchmark understands."""
    parser.add_argument(
        "--anyway", action="store_true", help="run on a busy machine too, and mark the figures"
    )


def start(args: argparse.Namespace) -> Watch:
    """Wait for a quiet machine and start watching; exit when it does not become quiet."""
    cores = os.cpu_count() or 1
    end = time.monotonic() + SETTLE_SECONDS
    while os.getloadavg()[0] > cores and not args.anyway and time.monotonic() < end:
        time.sleep(5)
    machine = describe()
    if machine.load_average > cores and not args.anyway:
        print(
            f"machine busy: load {machine.load_average:.2f} on {cores} cores\n"
            "run it again when nothing else runs, or with --anyway to see unpublishable figures",
            file=sys.stderr,
        )
        sys.exit(BUSY)
    return Watch(machine, anyway=args.anyway)


def describe() -> Machine:
    """Ask the kernel."""
    info = _cpu_info()
    known = set(info.get("flags", "").split())
    return Machine(
        processor=info.get("model name") or platform.processor() or platform.machine(),
        flags=tuple(flag for flag in FLAGS if flag in known),
        cores=os.cpu_count() or 1,
        threads=usable_threads(),
        system=f"{platform.system()} {platform.machine()}",
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu_info() -> dict[str, str]:
    """First processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _seconds_of_all() -> float | None:
    """Sum user, nice, system, irq, softirq and steal of /proc/stat (proc_stat(5))."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
