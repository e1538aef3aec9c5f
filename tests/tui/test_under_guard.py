"""The chat in a process that is really locked down; each test has a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from subterra.runtime.guard import missing_layers

ROOT = Path(__file__).parents[2]
needs_kernel = pytest.mark.skipif(bool(missing_layers()), reason="; ".join(missing_layers()))

TALK = """
import asyncio, sys
from pathlib import Path
from subterra.runtime.errors import SubterraError
from subterra.runtime.guard import lock_down
from subterra.tui.app import ChatApp
from tests.tui.conftest import FakeAgent, opened, send, spoken, wait_for

folder, forbidden = Path(sys.argv[1]), Path(sys.argv[2])
assert lock_down(write=[folder]).sealed

async def main() -> None:
    agent = FakeAgent(export_folder=folder)
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "no sound")
        await spoken(pilot, screen, "I see.")
        await pilot.press("f1", "escape", "ctrl+p", "escape", "ctrl+e")
        await wait_for(pilot, lambda: bool(list(folder.glob("transcript-*.txt"))))
        agent.export_folder = forbidden
        await pilot.press("ctrl+e")
        await wait_for(pilot, lambda: any("cannot write" in n.message for n in app._notifications))

asyncio.run(main())
print("talked")
"""


@needs_kernel
def test_the_screen_works_and_exports_to_the_one_folder_left_open(tmp_path: Path) -> None:
    folder, forbidden = tmp_path / "open", tmp_path / "closed"
    folder.mkdir()
    forbidden.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", TALK, str(folder), str(forbidden)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "talked\n", done.stderr
    (transcript,) = folder.iterdir()
    assert "You: no sound" in transcript.read_text()
    assert list(forbidden.iterdir()) == []
