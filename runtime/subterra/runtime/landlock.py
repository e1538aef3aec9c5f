"""Landlock: from now on this process sees only the files it was told of.

A default-deny ruleset (files; TCP from ABI 4; abstract sockets and signals to others from ABI 6).
Landlock binds one thread at a time, and numerical libraries start threads when they are imported,
so the ruleset is applied to every thread that exists: see `thread_call`.

Goes in: paths to read and paths to write. Comes out: a restriction in force on all threads. Does
not know UDP, raw sockets, extended attributes or file times, which Landlock leaves alone.
ABI table: Documentation/userspace-api/landlock.rst.

    >>> abi() >= 0
    True
"""

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path
from typing import Final

from subterra.runtime import kernel
from subterra.runtime.thread_call import call_on_other_threads

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE: Final = 1 << 14
_FILES_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Handled file rights: everything the ABI knows, so that whatever is not allowed is denied."""
_TCP: Final = 0b11
_SCOPES: Final = 0b11
_READ: Final = _READ_FILE | _READ_DIR
_WRITE: Final = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_PATH_BENEATH: Final = 1
_ASK_VERSION: Final = 1
SCOPES_ABI: Final = 6
TCP_ABI: Final = 4


def abi() -> int:
    """Ask the kernel for its Landlock ABI, 0 where there is none."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict(read: list[Path], write: list[Path]) -> int:
    """Restrict every thread of this process to these paths; return the number of threads.

    Raises:
        OSError: no Landlock, a path that cannot be opened, or a thread that did not answer.
    """
    version = abi()
    if not version:
        raise OSError(errno.EOPNOTSUPP, "this kernel offers no Landlock")
    ruleset = _ruleset(version)
    try:
        handled = _files(version)
        for path in read:
            _allow(ruleset, path, _READ & handled)
        for path in write:
            _allow(ruleset, path, _WRITE & handled)
        others = call_on_other_threads("landlock_restrict_self", ruleset)
        kernel.syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return others + 1


def coverage(version: int) -> str:
    """Say in words what an ABI covers and what is left to the system-call filter."""
    parts = ["files"]
    if version >= TCP_ABI:
        parts.append("TCP")
    if version >= SCOPES_ABI:
        parts.append("abstract sockets and signals")
    return f"ABI {version}: {', '.join(parts)}"


def _files(version: int) -> int:
    return _FILES_BY_ABI[max(known for known in _FILES_BY_ABI if known <= version)]


def _ruleset(version: int) -> int:
    tcp = _TCP if version >= TCP_ABI else 0
    scopes = _SCOPES if version >= SCOPES_ABI else 0
    fields = [_files(version)] + [tcp] * (version >= TCP_ABI) + [scopes] * (version >= SCOPES_ABI)
    attributes = ctypes.create_string_buffer(struct.pack(f"@{len(fields)}Q", *fields))
    return kernel.syscall("landlock_create_ruleset", attributes, 8 * len(fields), 0)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_A_FILE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
        kernel.syscall("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)
