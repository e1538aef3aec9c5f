"""Temporary names beside a target: claimed while in use, swept away after a kill, swapped in.

Goes in: the path of a target. Comes out: a `.NAME.*.part` file or folder that only this process
uses. Whoever writes holds a lock on it, so what a killed run left behind is told from what another
run is writing now. Does not know what is written.

    >>> with claimed(Path("/tmp/x.json")) as part:
    ...     part.name
    '.x.json.5e884898da280471.part'
"""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SUFFIX = ".part"
AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2


@contextlib.contextmanager
def claimed(path: Path, *, folder: bool = False, mode: int = 0o666) -> Iterator[Path]:
    """Yield an empty file or folder beside `path`; what is left of it goes at the end.

    Leftovers of killed writers of the same `path` are removed first. The umask applies to `mode`.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary, lock = _create(path, folder, mode)
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(lock)


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; what cannot be read or told is left."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(path.parent)):
            if entry.name.startswith(f".{path.name}.") and entry.name.endswith(SUFFIX):
                _remove_unused(Path(entry.path))


def swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot.

    Source: renameat2(2), RENAME_EXCHANGE; on macOS renamex_np(2), RENAME_SWAP.
    """
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, RENAME_SWAP) == 0)
        return bool(library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)
    except (OSError, TypeError, AttributeError):
        return False


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there; never complain."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _remove_unused(leftover: Path) -> None:
    if sys.platform == "win32":
        return
    handle = _opened(leftover)
    if handle is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(leftover)
    finally:
        os.close(handle)


def _create(path: Path, folder: bool, mode: int) -> tuple[Path, int]:
    """Make the temporary and lock it; again, should a sweep have come in between."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{SUFFIX}"
        if folder:
            temporary.mkdir()
        else:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, mode))
        lock = _lock(temporary)
        if lock is not None:
            return temporary, lock


def _lock(temporary: Path) -> int | None:
    """Lock a new temporary; None when a sweep was quicker. No lock where there is no flock."""
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    handle = _opened(temporary)
    if handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            os.close(handle)
            return None
    if temporary.exists():
        return handle
    os.close(handle)
    return None


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
