"""Listening posts outside the sandbox: whatever arrives here has left the process.

Goes in: nothing. Comes out: addresses for the other side, and the answer whether a marker arrived.
A post that this machine cannot open has no address; its routes stay untested. Does not know the
guard or how anything is sent.

    with Receivers() as posts:
        send_somehow(posts.addresses())
        posts.arrived("tcp v4", marker)
"""

import ctypes
import os
import selectors
import socket
import struct
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from subterra.runtime import kernel

NETLINK_USERSOCK: Final = 2
_IPC_CREATE, _IPC_REMOVE, _IPC_NOWAIT = 0o1000 | 0o600, 0, 0o4000
_SETTLE_SECONDS: Final = 0.5
"""What is still under way when the sender has ended arrives within this time on one machine."""
_READ_BYTES: Final = 65536
MEMORY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the posts listen; None where this machine has no such thing."""

    folder: str
    """Outside of every folder that the other process may write."""
    tcp4: int | None = None
    tcp6: int | None = None
    udp4: int | None = None
    vsock: int | None = None
    netlink: int | None = None
    unix_path: str | None = None
    unix_abstract: str | None = None
    inherited: int = -1
    """Descriptor that the other process is to inherit."""
    process: int | None = None
    memory: int | None = None
    descriptor: int | None = None
    queue: int | None = None

    def as_document(self) -> dict[str, object]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, object]) -> "Addresses":
        """Read the JSON form."""
        values = {field.name: document[field.name] for field in fields(cls)}
        return cls(**values)  # type: ignore[arg-type]


class Receivers:
    """All posts, served by one thread until closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="subterra-prove-")
        self._selector = selectors.DefaultSelector()
        self._received = bytearray()
        self._stop = threading.Event()
        self._memory = ctypes.create_string_buffer(MEMORY_BYTES)
        self._queue = _open_queue()
        self._sockets: list[socket.socket] = []
        self._addresses = self._open()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Receivers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._selector.close()
        for end in self._sockets:
            end.close()
        if self._queue is not None:
            with suppress(OSError):
                kernel.syscall("msgctl", self._queue, _IPC_REMOVE, 0)
        self._folder.cleanup()

    def addresses(self) -> Addresses:
        """Say where the posts listen."""
        return self._addresses

    def settle(self) -> None:
        """Wait for what is still under way, once the sender has ended."""
        time.sleep(_SETTLE_SECONDS)

    def arrived(self, marker: str) -> bool:
        """Tell whether a marker reached any post."""
        wanted = marker.encode()
        if wanted in self._received or wanted in self._memory.raw or wanted in self._queued():
            return True
        return self._in_files(wanted)

    def _in_files(self, wanted: bytes) -> bool:
        for path in Path(self._folder.name).iterdir():
            if path.is_file() and wanted in path.read_bytes():
                return True
            with suppress(OSError):
                if any(wanted == os.getxattr(path, name) for name in os.listxattr(path)):
                    return True
            if int(path.lstat().st_mtime) == as_time(wanted):
                return True
        return False

    def _queued(self) -> bytes:
        message = ctypes.create_string_buffer(8 + MEMORY_BYTES)
        while self._queue is not None:
            try:
                size = kernel.syscall("msgrcv", self._queue, message, MEMORY_BYTES, 0, _IPC_NOWAIT)
            except OSError:
                break
            self._received += message.raw[8 : 8 + size] + b"\n"
        return bytes(self._received)

    def _open(self) -> Addresses:
        folder = Path(self._folder.name)
        (folder / "attributes").write_text("")
        (folder / "times").write_text("")
        path, name = str(folder / "post"), f"subterra-{os.urandom(8).hex()}"
        with suppress(OSError):
            kernel.prctl(kernel.PR_SET_PTRACER, -1)  # where only ancestors may trace
        return Addresses(
            folder=str(folder),
            tcp4=self._internet(socket.AF_INET, "127.0.0.1", socket.SOCK_STREAM),
            tcp6=self._internet(socket.AF_INET6, "::1", socket.SOCK_STREAM),
            udp4=self._internet(socket.AF_INET, "127.0.0.1", socket.SOCK_DGRAM),
            vsock=self._vsock(),
            netlink=self._netlink(),
            unix_path=path if self._unix(path) else None,
            unix_abstract=name if self._unix(f"\0{name}") else None,
            inherited=self._pair(),
            process=os.getpid(),
            memory=ctypes.addressof(self._memory),
            descriptor=self._descriptor(),
            queue=self._queue,
        )

    def _internet(self, family: int, host: str, kind: int) -> int | None:
        post = self._bind(family, kind, (host, 0))
        return int(post.getsockname()[1]) if post else None

    def _unix(self, address: str) -> bool:
        return self._bind(socket.AF_UNIX, socket.SOCK_STREAM, address) is not None

    def _vsock(self) -> int | None:
        if not hasattr(socket, "AF_VSOCK"):
            return None
        anyone = (socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)
        post = self._bind(socket.AF_VSOCK, socket.SOCK_STREAM, anyone)
        return int(post.getsockname()[1]) if post else None

    def _netlink(self) -> int | None:
        if not hasattr(socket, "AF_NETLINK"):
            return None
        try:
            post = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
            post.bind((0, 0))
        except OSError:
            return None
        self._watch(post)
        return int(post.getsockname()[0])

    def _pair(self) -> int:
        ours, theirs = socket.socketpair()
        self._watch(ours)
        self._sockets.append(theirs)
        return theirs.fileno()

    def _descriptor(self) -> int:
        ours, lure = socket.socketpair()
        self._watch(ours)
        self._sockets.append(lure)
        return lure.fileno()

    def _bind(self, family: int, kind: int, address: object) -> socket.socket | None:
        try:
            post = socket.socket(family, kind)
            self._sockets.append(post)
            post.bind(address)  # type: ignore[arg-type]
            if kind == socket.SOCK_STREAM:
                post.listen()
        except OSError:
            return None
        self._watch(post)
        return post

    def _watch(self, post: socket.socket) -> None:
        post.setblocking(False)
        self._sockets.append(post)
        self._selector.register(post, selectors.EVENT_READ)

    def _serve(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                with suppress(OSError):
                    self._take(key.fileobj)  # type: ignore[arg-type]

    def _take(self, post: socket.socket) -> None:
        if post.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._watch(post.accept()[0])
        elif data := post.recv(_READ_BYTES):
            self._received += data + b"\n"
        else:
            self._selector.unregister(post)


def as_time(marker: bytes) -> int:
    """Spell the start of a marker as a file time, in seconds."""
    return int(marker[:7], 16)


def _open_queue() -> int | None:
    try:
        return kernel.syscall("msgget", 0, _IPC_CREATE)
    except OSError:
        return None


def queue_message(marker: bytes) -> bytes:
    """Frame a message for the queue: a positive type, then the text."""
    return struct.pack("@l", 1) + marker
