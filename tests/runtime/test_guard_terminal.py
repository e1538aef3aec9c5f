"""A terminal interface works whether the guard comes before it or after it has started."""

import os
import select
import sys
import time
from pathlib import Path

import pytest

from subterra.runtime.guard import missing_layers

pytest.importorskip("textual")
pty = pytest.importorskip("pty")

APP = """
import sys, time
from textual import work
from textual.app import App
from subterra.runtime import guard

class Chat(App):
    def on_mount(self):
        if sys.argv[1] == "after":
            guard.lock_down()
        self.think()

    @work(thread=True)
    def think(self):
        time.sleep(0.1)
        self.call_from_thread(self.exit)

if sys.argv[1] == "before":
    guard.lock_down()
Chat().run()
print("threads", *guard.filtered_threads(), "end")
"""


@pytest.mark.skipif(bool(missing_layers()), reason="; ".join(missing_layers()))
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_interface_runs_its_workers_and_ends(order: str, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(APP)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TERM": "xterm-256color",
    }
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, str(script), order], environment)
    output = _read_all(terminal, seconds=60)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, output
    _, total, filtered, _ = output[output.index("threads") :].split()
    assert total == filtered


def _read_all(terminal: int, seconds: float) -> str:
    data, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:
                break
            data += chunk
            if not chunk:
                break
    return data.decode(errors="replace")
