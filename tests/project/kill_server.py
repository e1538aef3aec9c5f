"""Runs command lines in forks of a process that has imported the heavy libraries once.

Reads a JSON document a line: the arguments, and the file operation before which the fork kills
itself (0: none). Answers with the fork's process id, then with how it ended.
"""

import importlib
import json
import os
import signal
import sys

from subterra.runtime.cli import main

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


def serve() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request["arguments"], request["until"])
        answer(child)
        answer(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run(arguments: list[str], until: int) -> None:
    """Run the command line and leave; never comes back."""
    code = 1
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(silence, stream)
        if until:
            die_before(until)
        code = main(arguments)
    finally:
        os._exit(code)


def die_before(operation: int) -> None:
    """Kill this process before the given change of the file system, counted from 1."""
    seen = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal seen
        if event in CHANGES or (event == "open" and writes(details)) or swaps(event, details):
            seen += 1
            if seen == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def writes(details: tuple[object, ...]) -> bool:
    flags = details[2] if len(details) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def swaps(event: str, details: tuple[object, ...]) -> bool:
    return event == "ctypes.dlsym" and details[-1] in ("renameat2", "renamex_np")


def answer(number: int) -> None:
    print(number, flush=True)


if __name__ == "__main__":
    serve()
