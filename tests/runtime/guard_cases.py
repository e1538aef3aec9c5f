"""Scripts that lock themselves down, one process each: `python guard_cases.py CASE`."""

import asyncio
import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from subterra.runtime import guard, landlock, telemetry
from subterra.runtime.errors import GuardError

Report = dict[str, object]


def attempt(action: Callable[[], object]) -> str:
    """Name how an action ends."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def layers() -> Report:
    status = guard.lock_down()
    return {"sealed": status.sealed, "layers": [layer.name for layer in status.layers]}


def basics() -> Report:
    allowed, elsewhere = Path(sys.argv[2]), Path(sys.argv[3])
    status = guard.lock_down(read=[Path(__file__)], write=[allowed])
    end, peer = socket.socketpair()
    with end, peer:
        sent = attempt(lambda: end.send(b"x"))
        addressed = attempt(lambda: end.sendto(b"x", "/tmp/nowhere"))
    return {
        "sealed": status.sealed,
        "read": attempt(lambda: Path(__file__).read_text()),
        "read elsewhere": attempt(lambda: (elsewhere / "secret").read_text()),
        "list elsewhere": attempt(lambda: list(elsewhere.iterdir())),
        "write": attempt(lambda: (allowed / "log").write_text("x")),
        "replace": attempt(lambda: (allowed / "log").replace(allowed / "log2")),
        "write elsewhere": attempt(lambda: (elsewhere / "log").write_text("x")),
        "truncate elsewhere": attempt(lambda: os.truncate(elsewhere / "secret", 0)),
        "link elsewhere": attempt(lambda: (elsewhere / "l").symlink_to("x")),
        "socket": attempt(socket.socket),
        "pair": sent,
        "pair, addressed": addressed,
        "fork": attempt(os.fork),
        "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
        "subprocess": attempt(lambda: subprocess.run(["/bin/true"], check=True)),
        "signal to the parent": attempt(lambda: os.kill(os.getppid(), 0)),
        "signal to itself": attempt(lambda: os.kill(os.getpid(), 0)),
        "utime": attempt(lambda: os.utime(allowed)),
        "mode": attempt(lambda: allowed.chmod(0o700)),
        "run a file": attempt(lambda: os.open("/proc/self/mem", os.O_RDWR)),
    }


def threads() -> Report:
    go, results = threading.Event(), {}

    def before() -> None:
        go.wait()
        results["socket"] = attempt(socket.socket)
        results["file"] = attempt(lambda: Path(sys.argv[2], "drop").write_text("x"))
        results["shell"] = attempt(lambda: os.posix_spawn("/bin/sh", ["sh"], {}))

    earlier = [threading.Thread(target=before) for _ in range(8)]
    for thread in earlier:
        thread.start()
    status = guard.lock_down()
    counted = guard.filtered_threads()
    go.set()
    for thread in earlier:
        thread.join()
    late = threading.Thread(target=lambda: results.update(late=attempt(socket.socket)))
    late.start()
    late.join()
    return {**results, "threads": status.threads, "counted": list(counted)}


def blocked_signals() -> Report:
    import signal

    def deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ready.set()
        threading.Event().wait()

    ready = threading.Event()
    threading.Thread(target=deaf, daemon=True).start()
    ready.wait()
    try:
        guard.lock_down()
    except GuardError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        os._exit(0)
    return {"refused": ""}


def descriptors() -> Report:
    inherited = int(sys.argv[2])
    own, peer = socket.socketpair()
    tcp = socket.create_server(("127.0.0.1", 0))
    reading = Path(__file__).open("rb")  # noqa: SIM115
    writing = (Path(sys.argv[3]) / "open").open("wb")
    kept = (Path(sys.argv[3]) / "kept").open("wb")
    guard.lock_down(keep=[kept.fileno()])
    return {
        "inherited": attempt(lambda: os.write(inherited, b"x")),
        "listening": attempt(lambda: tcp.getsockname()),
        "own pair": attempt(lambda: own.send(b"x")) + attempt(lambda: peer.recv(1)),
        "reading": attempt(lambda: os.read(reading.fileno(), 1)),
        "writing": attempt(lambda: os.write(writing.fileno(), b"x")),
        "kept": attempt(lambda: os.write(kept.fileno(), b"x")),
    }


def event_loops() -> Report:
    async def before() -> bool:
        guard.lock_down()
        return await asyncio.to_thread(lambda: True)

    async def after() -> bool:
        return await asyncio.to_thread(lambda: True)

    return {"before": asyncio.run(before()), "after": asyncio.run(after())}


def shared_memory() -> Report:
    import mmap

    shared = mmap.mmap(-1, 4096)
    shared[:1] = b"x"
    try:
        guard.lock_down()
    except GuardError as error:
        return {"refused": str(error)}
    return {"refused": ""}


def unprivileged() -> Report:
    telemetry.silence()
    import numpy as np

    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    status = guard.lock_down()
    return {
        "uid": os.getuid(),
        "sealed": status.sealed,
        "socket": attempt(socket.socket),
        "file": attempt(lambda: Path(sys.argv[2], "drop").write_text("x")),
        "product": float((np.ones((64, 64)) @ np.ones((64, 64)))[0, 0]),
    }


def missing_layer() -> Report:
    landlock.abi = lambda: 0
    try:
        guard.lock_down()
    except GuardError as error:
        refused = f"{error} | {error.hint} | {error.exit_code}"
    status = guard.lock_down(mode="best-effort")
    return {
        "refused": refused,
        "sealed": status.sealed,
        "summary": status.summary(),
        "socket": attempt(socket.socket),
    }


def switched_off() -> Report:
    status = guard.lock_down(mode="off")
    return {"sealed": status.sealed, "socket": attempt(lambda: socket.socket().close())}


def traceable() -> Report:
    guard.lock_down()
    libc = ctypes.CDLL(None)
    return {"dumpable": libc.prctl(3, 0, 0, 0, 0), "no_new_privs": libc.prctl(39, 0, 0, 0, 0)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
