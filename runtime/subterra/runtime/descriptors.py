"""Which open descriptors could carry data out, and closing those.

The filter stops new channels; `write` must stay allowed, so every old channel has to go. Standard
input, output and error stay: they are the user's screen. Beyond them a descriptor stays only if it
cannot carry data to another process: a file or folder opened for reading, /dev/null, an epoll set,
or one end of a socket pair that this very process made (SO_PEERCRED names its maker), which is how
event loops wake themselves.

Goes in: descriptors to keep. Comes out: what was closed, in words. Does not know the kernel's
restrictions.

    >>> isinstance(writable_shared_memory(), list)
    True
"""

import os
import socket
import stat
import struct
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

STANDARD: Final = (0, 1, 2)
NULL_DEVICE: Final = os.makedev(1, 3) if hasattr(os, "makedev") else -1
"""/dev/null; libraries keep it open and redirect to it."""


def close_channels(keep: Collection[int] = ()) -> list[str]:
    """Close every descriptor above 2 that could carry data out; name what was closed."""
    closed = []
    for handle in sorted(_open_descriptors() - {*STANDARD, *keep}):
        try:
            if not _is_harmless(handle):
                kind = _kind(handle)
                os.close(handle)
                closed.append(kind)
        except OSError:  # closed meanwhile, or a listing's own descriptor
            continue
    return closed


def standard_sockets() -> list[int]:
    """List which of standard input, output and error are sockets (a network login, a service)."""
    sockets = []
    for handle in STANDARD:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(handle).st_mode):
                sockets.append(handle)
    return sockets


def writable_shared_memory() -> list[str]:
    """List mappings that another process, or a kernel thread, may read while this one writes."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if fields[1][1] == "w" and fields[1][3] == "s":
            found.append(fields[5] if len(fields) > 5 else "anonymous")
    return found


def _open_descriptors() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


def _is_harmless(handle: int) -> bool:
    mode = os.fstat(handle).st_mode
    if stat.S_ISSOCK(mode):
        return _is_own_pair(handle)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if stat.S_ISCHR(mode):
        return os.fstat(handle).st_rdev == NULL_DEVICE
    return _kind(handle) == "anon_inode:[eventpoll]"


def _is_own_pair(handle: int) -> bool:
    with socket.socket(fileno=os.dup(handle)) as end:
        if end.family != socket.AF_UNIX or end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        if end.getsockname() or _peer_name(end) is None:
            return False
        credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        maker = int(struct.unpack("3i", credentials)[0])
        return maker == os.getpid()


def _peer_name(end: socket.socket) -> str | None:
    try:
        return str(end.getpeername())
    except OSError:
        return None


def _kind(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())
