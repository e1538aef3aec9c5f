"""Every way out that the proof tries: one small function a route.

Each sends a marker to the receivers' addresses by other means. A route whose receiver this machine
lacks raises `Unavailable`. Goes in: addresses and a marker. Comes out: nothing, or the error that
stopped it; only the receivers know what arrived. Does not know the guard.

    for route in ROUTES:
        route.attempt(addresses, marker)
"""

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from subterra.runtime import egress_native, kernel
from subterra.runtime.egress_native import Unavailable
from subterra.runtime.receivers import NETLINK_USERSOCK, Addresses, as_time, queue_message

PATIENCE_SECONDS: Final = 1.0
_LOOPBACK: Final = "127.0.0.1"
_WAIT_THREAD: Final = 10.0

Attempt = Callable[[Addresses, bytes], None]
Needed = TypeVar("Needed", int, str)


@dataclass(frozen=True, slots=True)
class Route:
    """One way out."""

    name: str
    attempt: Attempt
    essential: bool = True
    """Whether every machine has it; a missing control then makes the proof incomplete."""
    earlier: bool = False
    """Whether it is tried on a thread that is older than the lock-down."""


class EarlierThread:
    """A thread started before the lock-down, as numerical libraries have; it tries on request."""

    def __init__(self) -> None:
        self._wanted, self._finished = threading.Event(), threading.Event()
        self._work: Callable[[], None] = lambda: None
        self._error: Exception | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def attempt(self, of: Attempt) -> Attempt:
        """Make a route's attempt run on this thread."""

        def on_thread(addresses: Addresses, marker: bytes) -> None:
            self._error = None
            self._work = lambda: of(addresses, marker)
            self._finished.clear()
            self._wanted.set()
            if not self._finished.wait(_WAIT_THREAD):
                raise TimeoutError("the thread did not answer")
            if self._error is not None:
                raise self._error

        return on_thread

    def _serve(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            try:
                self._work()
            except (OSError, Unavailable) as error:
                self._error = error
            self._finished.set()


def tcp4(addresses: Addresses, marker: bytes) -> None:
    """Connect and send."""
    _stream(socket.AF_INET, (_LOOPBACK, _need(addresses.tcp4)), marker)


def tcp6(addresses: Addresses, marker: bytes) -> None:
    """Connect and send over IPv6."""
    _stream(socket.AF_INET6, ("::1", _need(addresses.tcp6)), marker)


def udp(addresses: Addresses, marker: bytes) -> None:
    """Send a datagram from an unconnected socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(marker, (_LOOPBACK, _need(addresses.udp4)))


def udp_message(addresses: Addresses, marker: bytes) -> None:
    """Send a datagram with sendmsg."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendmsg([marker], [], 0, (_LOOPBACK, _need(addresses.udp4)))


def unix_path(addresses: Addresses, marker: bytes) -> None:
    """Connect to a socket in the file system."""
    _stream(socket.AF_UNIX, _need(addresses.unix_path), marker)


def unix_abstract(addresses: Addresses, marker: bytes) -> None:
    """Connect to a socket in the abstract name space."""
    _stream(socket.AF_UNIX, f"\0{_need(addresses.unix_abstract)}", marker)


def inherited(addresses: Addresses, marker: bytes) -> None:
    """Write to a descriptor that was open from the start."""
    os.write(addresses.inherited, marker)


def file_drop(addresses: Addresses, marker: bytes) -> None:
    """Leave a file for somebody to pick up."""
    (Path(addresses.folder) / f"drop-{threading.get_native_id()}").write_bytes(marker)


def file_times(addresses: Addresses, marker: bytes) -> None:
    """Spell the marker as the time of a file."""
    seconds = as_time(marker)
    os.utime(Path(addresses.folder) / "times", (seconds, seconds))


def file_attributes(addresses: Addresses, marker: bytes) -> None:
    """Attach the marker to a file as an extended attribute."""
    if not hasattr(os, "setxattr"):
        raise Unavailable("no extended attributes here")
    os.setxattr(Path(addresses.folder) / "attributes", "user.subterra", marker)


def child_program(addresses: Addresses, marker: bytes) -> None:
    """Let another program do it."""
    target = Path(addresses.folder) / "child"
    command = f"printf %s {marker.decode()} > {target}"
    child = os.posix_spawn("/bin/sh", ["sh", "-c", command], {})
    _wait_for(child)


def forked_child(addresses: Addresses, marker: bytes) -> None:
    """Let a copy of this process do it."""
    child = os.fork()
    if child == 0:
        try:
            tcp4(addresses, marker)
        finally:
            os._exit(0)
    _wait_for(child)


def other_memory(addresses: Addresses, marker: bytes) -> None:
    """Write into the memory of another process."""
    data = ctypes.create_string_buffer(marker)
    local = ctypes.create_string_buffer(struct.pack("@PN", kernel.address(data), len(marker)))
    remote = ctypes.create_string_buffer(struct.pack("@PN", _need(addresses.memory), len(marker)))
    kernel.syscall("process_vm_writev", _need(addresses.process), local, 1, remote, 1, 0)


def other_descriptor(addresses: Addresses, marker: bytes) -> None:
    """Take a connected socket from another process."""
    process = kernel.syscall("pidfd_open", _need(addresses.process), 0)
    taken = kernel.syscall("pidfd_getfd", process, _need(addresses.descriptor), 0)
    os.write(taken, marker)


def message_queue(addresses: Addresses, marker: bytes) -> None:
    """Put a message into a System V queue."""
    message = ctypes.create_string_buffer(queue_message(marker))
    kernel.syscall("msgsnd", _need(addresses.queue), message, len(marker), 0)


def netlink(addresses: Addresses, marker: bytes) -> None:
    """Send to another process over netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK) as end:
        end.sendto(marker, (_need(addresses.netlink), 0))


def vsock(addresses: Addresses, marker: bytes) -> None:
    """Connect to this machine as a virtual machine's host would."""
    if not hasattr(socket, "AF_VSOCK"):
        raise Unavailable("no vsock here")
    _stream(socket.AF_VSOCK, (1, _need(addresses.vsock)), marker)  # 1: this machine


def raw_packet(addresses: Addresses, marker: bytes) -> None:
    """Build a UDP datagram by hand (needs CAP_NET_RAW)."""
    port = _need(addresses.udp4)
    header = struct.pack("!HHHH", 9, port, 8 + len(marker), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as end:
        end.sendto(header + marker, (_LOOPBACK, 0))


def _stream(family: int, address: object, marker: bytes) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as end:
        end.settimeout(PATIENCE_SECONDS)
        end.connect(address)  # type: ignore[arg-type]
        end.sendall(marker)


def _wait_for(child: int) -> None:
    os.waitpid(child, 0)


def _need(value: Needed | None) -> Needed:
    if value is None:
        raise Unavailable("this machine has no receiver for it")
    return value


ROUTES: Final = (
    Route("tcp v4", tcp4),
    Route("tcp v6", tcp6, essential=False),
    Route("udp", udp),
    Route("udp, sendmsg", udp_message),
    Route("unix socket, path", unix_path),
    Route("unix socket, abstract", unix_abstract),
    Route("inherited descriptor", inherited),
    Route("file outside", file_drop),
    Route("file times", file_times),
    Route("file attributes", file_attributes, essential=False),
    Route("child program", child_program),
    Route("forked child", forked_child),
    Route("earlier thread, tcp", tcp4, earlier=True),
    Route("earlier thread, file", file_drop, earlier=True),
    Route("system calls without Python", egress_native.libc_tcp),
    Route("io_uring", egress_native.io_uring, essential=False),
    Route("foreign ABI (i386)", egress_native.foreign_abi, essential=False),
    Route("memory of another process", other_memory, essential=False),
    Route("descriptor of another process", other_descriptor, essential=False),
    Route("message queue", message_queue, essential=False),
    Route("netlink", netlink, essential=False),
    Route("vsock", vsock, essential=False),
    Route("raw packet", raw_packet, essential=False),
)
"""Every route, in the order of trial."""
