"""The lock-down: after `lock_down` nothing leaves this process but what it shows the user.

    layer            closes
    descriptors      channels that were open before: sockets, pipes, files opened for writing
    shared memory    found and named: memory that others read while this process writes
    privileges       no_new_privs on every thread; the process is not dumpable
    seccomp          new channels, other programs, other processes (see `seccomp`)
    landlock         files beyond the bundle and what Python needs, TCP, abstract sockets, signals

No single layer closes every way; together they close every route that `subterra prove` tries. All
work for an ordinary user, on all threads, and cannot be undone. Not closed: what the user sees on
the screen, and covert timing towards a helper on the same machine (load, locks, process names).
Import libraries first, then lock down, then load the model and read the user's words: data files
beyond the bundle and the installation are out of reach afterwards.

Goes in: paths to read and write. Comes out: each layer's state, checked. Does not know bundles.

    status = lock_down(read=[bundle.path], write=[state_folder])
    print(status.summary())
"""

import os
import site
import sys
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from subterra.runtime import descriptors, kernel, landlock, seccomp, telemetry
from subterra.runtime.errors import GuardError

Mode = Literal["required", "best-effort", "off"]

LAYERS: Final = ("descriptors", "shared memory", "privileges", "seccomp", "landlock")
_SYSTEM_READ: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/usr/share/terminfo", "/etc/terminfo", "/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup", "/dev/zero",
    "/dev/random", "/dev/urandom",
)  # fmt: skip
"""What interpreters, terminals and numerical libraries read while running."""
_HINT: Final = "--guard best-effort runs with the layers there are and says which are missing"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the lock-down."""

    name: str
    in_force: bool
    detail: str


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """What holds this process, layer by layer."""

    mode: Mode
    layers: tuple[Layer, ...]
    threads: int
    threads_filtered: int

    @property
    def sealed(self) -> bool:
        """Tell whether every layer is in force on every thread."""
        every_thread = self.threads == self.threads_filtered
        return bool(self.layers) and every_thread and all(layer.in_force for layer in self.layers)

    def summary(self) -> str:
        """Say it in one line, for a status bar."""
        if self.sealed:
            return f"sealed: {len(self.layers)} layers, {self.threads_filtered} threads"
        missing = ", ".join(layer.name for layer in self.layers if not layer.in_force)
        return f"not sealed: {missing or 'threads outside the filter'}"

    def as_document(self) -> dict[str, object]:
        """Give the JSON form, as in `subterra prove --json`."""
        return asdict(self)


def lock_down(
    *,
    read: Iterable[Path] = (),
    write: Iterable[Path] = (),
    keep: Collection[int] = (),
    close_descriptors: bool = True,
    mode: Mode = "required",
) -> GuardStatus:
    """Lock this process down for good, on every thread, and check that it holds.

    Args:
        read: files and folders to read, besides the Python installation.
        write: existing folders to read and write (state, audit log).
        keep: descriptors above 2 to leave open.
        close_descriptors: close every other descriptor that could carry data out.
        mode: `required` fails closed; `best-effort` applies what there is; `off` does nothing.

    Raises:
        GuardError: a layer is missing or not in force, or a path does not exist.
    """
    if mode == "off":
        layers = tuple(Layer(name, False, "switched off") for name in LAYERS)
        return GuardStatus(mode, layers, threads=1, threads_filtered=0)
    telemetry.drop_proxies()
    readable, writable = list(read), list(write)
    _check_paths([*readable, *writable])
    if mode == "required":
        _refuse_missing(close_descriptors)
    layers = (
        _close(keep, close_descriptors),
        _memory(),
        _privileges(),
        _filter(),
        _files([*runtime_paths(), *readable], [Path(os.devnull), *writable]),
    )
    total, filtered = filtered_threads()
    status = GuardStatus(mode, layers, total, filtered)
    if mode == "required" and not status.sealed:
        raise GuardError(_failure(status), hint=_HINT)
    return status


def missing_layers() -> list[str]:
    """Name the layers that this machine cannot put in force, each with its reason."""
    if not sys.platform.startswith("linux"):
        return [f"{name} (needs Linux, this is {sys.platform})" for name in LAYERS]
    missing = []
    if not seccomp.available():
        missing.append("seccomp (no filter support in this kernel or for this processor)")
    if not landlock.abi():
        missing.append("landlock (needs Linux 5.13 with Landlock enabled)")
    return missing


def filtered_threads() -> tuple[int, int]:
    """Count this process's threads, and those under a seccomp filter, as the kernel says."""
    if not sys.platform.startswith("linux"):
        return 1, 0
    total = filtered = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            status = (task / "status").read_text()
        except OSError:  # the thread has ended meanwhile
            continue
        total += 1
        filtered += "\nSeccomp:\t2\n" in status
    return total, filtered


def runtime_paths() -> list[Path]:
    """List what Python and the numerical libraries read while running, where it exists."""
    import subterra

    installed = [sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)]
    own = [*site.getsitepackages(), *subterra.__path__, f"/proc/{os.getpid()}"]
    candidates = sorted({*_SYSTEM_READ, *installed, *own})
    return [Path(path) for path in candidates if os.access(path, os.R_OK)]


def _check_paths(paths: list[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise GuardError(f"cannot allow {path}: it does not exist", hint=f"mkdir -p {path}")


def _refuse_missing(close_descriptors: bool) -> None:
    missing = missing_layers()
    if not close_descriptors:
        missing.append("descriptors (the caller keeps them open)")
    if missing:
        raise GuardError(f"the guard cannot be complete: {'; '.join(missing)}", hint=_HINT)


def _close(keep: Collection[int], wanted: bool) -> Layer:
    if not wanted:
        return Layer("descriptors", False, "the caller keeps them open")
    try:
        closed = descriptors.close_channels(keep)
        sockets = descriptors.standard_sockets()
    except OSError as error:
        return Layer("descriptors", False, f"cannot be listed: {error.strerror}")
    detail = f"{len(closed)} closed" + (f", {len(keep)} kept on request" if keep else "")
    if sockets:
        detail += f"; standard descriptor {sockets[0]} is a socket and stays open"
    return Layer("descriptors", True, detail)


def _memory() -> Layer:
    try:
        shared = descriptors.writable_shared_memory()
    except OSError as error:
        return Layer("shared memory", False, f"cannot be listed: {error.strerror}")
    return Layer("shared memory", not shared, ", ".join(shared) or "none that others can read")


def _privileges() -> Layer:
    try:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    except OSError as error:
        return Layer("privileges", False, str(error))
    return Layer("privileges", True, "no_new_privs, not dumpable")


def _filter() -> Layer:
    try:
        seccomp.install()
    except OSError as error:
        return Layer("seccomp", False, str(error))
    refused = sum(len(group) for group in seccomp.REFUSED.values())
    return Layer("seccomp", True, f"{refused} system calls refused on every thread")


def _files(read: list[Path], write: list[Path]) -> Layer:
    try:
        threads = landlock.restrict(read, write)
    except OSError as error:
        return Layer("landlock", False, str(error))
    return Layer("landlock", True, f"{landlock.coverage(landlock.abi())}; {threads} threads")


def _failure(status: GuardStatus) -> str:
    broken = [f"{layer.name} ({layer.detail})" for layer in status.layers if not layer.in_force]
    if status.threads != status.threads_filtered:
        outside = status.threads - status.threads_filtered
        broken.append(f"seccomp ({outside} of {status.threads} threads are not filtered)")
    return f"the guard is not in force: {'; '.join(broken)}"
