"""Make one system call on every other thread of this process.

`landlock_restrict_self` binds the calling thread only (a flag for all threads came with ABI 8,
Linux 7.0). Threads that are already there (OpenBLAS, OpenMP, a terminal interface's reader) would
keep their reach. As `libpsx` and the C library's `setuid` do, each of them is sent a signal whose
handler makes the call. The handler runs on native threads that hold no interpreter lock, so it
cannot be Python: it is twenty bytes of machine code, written to a page that is then read-only and
executable.

Goes in: a system call and its first argument. Comes out: how many threads made it. Does not know
Landlock.
"""

import ctypes
import errno
import mmap
import os
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Final

from subterra.runtime import kernel

ANSWER_SECONDS: Final = 5.0
"""A thread that has not answered by then blocks the signal; nothing may start beside it."""

_SIGNAL: Final = 64  # the last real-time signal, seldom anyone's
_SA_RESTART: Final = 0x10000000
_PENDING: Final = 1
"""No system call returns 1 here: success is 0, failure is negative."""


def call_on_other_threads(name: str, argument: int) -> int:
    """Make the call `name(argument, 0)` on every other thread; return how many made it.

    Raises:
        OSError: a thread refused, did not answer, or executable memory is forbidden.
    """
    if not _others():
        return 0
    answer = ctypes.c_int32(_PENDING)
    code = machine_code(kernel.MACHINE, kernel.number(name), argument, ctypes.addressof(answer))
    page = _executable_page(code)
    done: set[int] = set()
    previous = _set_handler(page)
    try:
        while waiting := _others() - done:
            for thread in waiting:
                _call_on(thread, answer, name)
                done.add(thread)
    finally:
        _restore_handler(previous)
    return len(_others())


def machine_code(machine: str, call: int, argument: int, answer: int) -> bytes:
    """Assemble `*(int32_t *)answer = call(argument, 0); return` for one architecture."""
    if machine == "x86_64":
        return (
            b"\xf3\x0f\x1e\xfa"  # endbr64
            + struct.pack("<BI", 0xB8, call)  # mov eax, call
            + struct.pack("<BI", 0xBF, argument)  # mov edi, argument
            + b"\x31\xf6\x0f\x05"  # xor esi, esi; syscall
            + struct.pack("<2sQ", b"\x48\xb9", answer)  # mov rcx, answer
            + b"\x89\x01\xc3"  # mov [rcx], eax; ret
        )
    return struct.pack(
        "<8IQ2I",
        0xD503245F,  # bti c
        0xD2800008 | call << 5,  # mov x8, call
        0x18000100,  # ldr w0, argument (8 instructions on)
        0xAA1F03E1,  # mov x1, xzr
        0xD4000001,  # svc 0
        0x58000062,  # ldr x2, answer (3 instructions on)
        0xB9000040,  # str w0, [x2]
        0xD65F03C0,  # ret
        answer,
        argument,
        0,
    )


def _call_on(thread: int, answer: ctypes.c_int32, name: str) -> None:
    answer.value = _PENDING
    try:
        kernel.syscall("tgkill", os.getpid(), thread, _SIGNAL)
    except OSError as error:
        if error.errno == errno.ESRCH:
            return  # it has ended meanwhile
        raise
    give_up = time.monotonic() + ANSWER_SECONDS
    while answer.value == _PENDING:
        if not Path(f"/proc/self/task/{thread}").exists():
            return
        if time.monotonic() > give_up:
            raise OSError(errno.ETIMEDOUT, f"thread {thread} blocks signals and stays outside")
        time.sleep(0.0002)
    if answer.value < 0:
        code = -answer.value
        raise OSError(code, f"{name} on thread {thread}: {os.strerror(code)}")


def _others() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()} - {
        threading.get_native_id()
    }


def _executable_page(code: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = mmap.PAGESIZE
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    page = libc.mmap(None, size, writable, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if page in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "no memory for the signal handler")
    ctypes.memmove(page, code, len(code))
    if libc.mprotect(page, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "executable memory is forbidden here")
    return int(page)


class _Action(ctypes.Structure):
    """The C library's struct sigaction, equal on glibc and musl, x86_64 and aarch64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _set_handler(page: int) -> _Action:
    previous, action = _Action(), _Action()
    action.handler, action.flags = page, _SA_RESTART
    ctypes.memset(ctypes.byref(action, _Action.mask.offset), 0xFF, 128)
    _sigaction(action, previous)
    return previous


def _restore_handler(previous: _Action) -> None:
    _sigaction(previous, None)


def _sigaction(action: _Action, previous: _Action | None) -> None:
    old = None if previous is None else ctypes.byref(previous)
    if ctypes.CDLL(None, use_errno=True).sigaction(_SIGNAL, ctypes.byref(action), old):
        raise OSError(ctypes.get_errno(), f"signal {signal.Signals(_SIGNAL).name} is not ours")
