"""Ways out below Python's socket module: plain system calls, io_uring, a foreign ABI.

Goes in: addresses and a marker. Comes out: nothing, or the error that stopped it. Python's own
hooks see none of this. Does not know the guard. io_uring: io_uring_enter(2), <linux/io_uring.h>;
foreign ABI: the i386 table reached through `int 0x80` from a 64-bit process.

    libc_tcp(addresses, marker)
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from typing import Final

from subterra.runtime import kernel
from subterra.runtime.receivers import Addresses

_SQES_OFFSET: Final = 0x10000000
_OP_CONNECT, _OP_SEND, _OP_SOCKET = 16, 26, 45
_ENTER_GETEVENTS: Final = 1
_ENTRIES: Final = 8
_SQE_BYTES, _CQE_BYTES = 64, 16
_I386_SOCKET, _I386_CONNECT, _I386_WRITE = 359, 362, 4
_MAP_32BIT: Final = 0x40


class Unavailable(Exception):  # noqa: N818 - a finding, not a failure
    """This machine lacks the means; the route stays untested."""


def libc_tcp(addresses: Addresses, marker: bytes) -> None:
    """Connect and send with bare system calls."""
    handle = kernel.syscall("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    try:
        target = _address(addresses)
        kernel.syscall("connect", handle, target, len(target))
        os.write(handle, marker)
    finally:
        os.close(handle)


def io_uring(addresses: Addresses, marker: bytes) -> None:
    """Create a socket, connect and send through a submission queue only."""
    with _Ring() as ring:
        target = ctypes.create_string_buffer(_address(addresses))
        data = ctypes.create_string_buffer(marker)
        handle = ring.do(_OP_SOCKET, socket.AF_INET, offset=socket.SOCK_STREAM)
        try:
            ring.do(_OP_CONNECT, handle, pointer=kernel.address(target), offset=16)
            ring.do(_OP_SEND, handle, pointer=kernel.address(data), length=len(marker))
        finally:
            os.close(handle)


def foreign_abi(addresses: Addresses, marker: bytes) -> None:
    """Make 32-bit system calls from this 64-bit process (x86_64 only)."""
    if kernel.MACHINE != "x86_64":
        raise Unavailable("only x86_64 has a second table of system calls")
    memory = mmap.mmap(
        -1,
        mmap.PAGESIZE,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_32BIT,
        prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )
    page = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # arguments arrive in edi (call), esi, edx, ecx; int 0x80 takes them in eax, ebx, ecx, edx
    # push rbx; mov eax, edi; mov ebx, esi; xchg edx, ecx; int 0x80; pop rbx; cdqe; ret
    memory[0:13] = b"\x53\x89\xf8\x89\xf3\x87\xca\xcd\x80\x5b\x48\x98\xc3"
    target = _address(addresses)
    memory[256 : 256 + len(target)] = target
    memory[512 : 512 + len(marker)] = marker
    call = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 4)(page)
    handle = _checked(call(_I386_SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0), "socket")
    try:
        _checked(call(_I386_CONNECT, handle, page + 256, len(target)), "connect")
        _checked(call(_I386_WRITE, handle, page + 512, len(marker)), "write")
    finally:
        os.close(handle)


def _checked(result: int, name: str) -> int:
    if result == -errno.ENOSYS:
        raise Unavailable("this kernel has no 32-bit calls")
    if result < 0:
        raise OSError(-result, f"{name} (i386): {os.strerror(-result)}")
    return result


def _address(addresses: Addresses) -> bytes:
    if addresses.tcp4 is None:
        raise Unavailable("this machine has no receiver for it")
    family = struct.pack("=H", socket.AF_INET)
    return family + struct.pack("!H", addresses.tcp4) + socket.inet_aton("127.0.0.1") + bytes(8)


class _Ring:
    """An io_uring with eight entries, used one operation at a time."""

    def __enter__(self) -> "_Ring":
        parameters = ctypes.create_string_buffer(120)
        try:
            self._handle = kernel.syscall("io_uring_setup", _ENTRIES, parameters)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise Unavailable("this kernel has no io_uring") from error
            raise
        sq = struct.unpack_from("10I", parameters.raw, 40)
        cq = struct.unpack_from("10I", parameters.raw, 80)
        self._sq_tail, self._sq_array = sq[1], sq[6]
        self._cq_head, self._cq_entries = cq[0], cq[5]
        size = max(self._sq_array + 4 * _ENTRIES, self._cq_entries + _CQE_BYTES * 2 * _ENTRIES)
        self._rings = mmap.mmap(self._handle, size)
        self._queue = mmap.mmap(self._handle, _SQE_BYTES * _ENTRIES, offset=_SQES_OFFSET)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def do(
        self, operation: int, handle: int, *, pointer: int = 0, length: int = 0, offset: int = 0
    ) -> int:
        """Run one operation and return its result."""
        entry = struct.pack("=BBHiQQI", operation, 0, 0, handle, offset, pointer, length)
        self._queue[0:_SQE_BYTES] = entry.ljust(_SQE_BYTES, b"\0")
        tail = self._word(self._sq_tail)
        struct.pack_into("=I", self._rings, self._sq_array + 4 * (tail % _ENTRIES), 0)
        struct.pack_into("=I", self._rings, self._sq_tail, tail + 1)
        kernel.syscall("io_uring_enter", self._handle, 1, 1, _ENTER_GETEVENTS, None, 0)
        head = self._word(self._cq_head)
        place = self._cq_entries + _CQE_BYTES * (head % (2 * _ENTRIES))
        result = int(struct.unpack_from("=Qi", self._rings, place)[1])
        struct.pack_into("=I", self._rings, self._cq_head, head + 1)
        if result == -errno.EINVAL:
            raise Unavailable("this kernel's io_uring lacks the operation")
        if result < 0:
            raise OSError(-result, f"io_uring: {os.strerror(-result)}")
        return result

    def _word(self, offset: int) -> int:
        return int(struct.unpack_from("=I", self._rings, offset)[0])
