"""Files and folders that are never half-written, whatever is killed and when."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from subterra.runtime import files, temporary
from subterra.runtime.errors import BundleError, ResourceError
from subterra.runtime.files import replacing, replacing_folder, write_json

WRITER = """
import os, signal, sys
from pathlib import Path
from subterra.runtime import files

target, until, swaps = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "swap"
if not swaps:
    files.swap = lambda one, other: False
seen = 0

def die_at(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "ctypes.dlsym"):
        seen += 1
        if seen == until:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die_at)
with files.replacing_folder(target) as folder:
    (folder / "one").write_text("new")
    (folder / "two").write_text("new")
"""
"""Writes a folder, and kills itself before the given file operation."""


def contents(folder: Path) -> dict[str, str] | None:
    if not folder.is_dir():
        return None
    return {file.name: file.read_text() for file in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


OLD = {"one": "old", "two": "old"}
NEW = {"one": "new", "two": "new"}


@pytest.mark.parametrize("way", ["swap", "without"])
@pytest.mark.parametrize("before", [None, OLD])
def test_a_folder_killed_before_any_operation_is_old_or_new(
    tmp_path: Path, way: str, before: dict[str, str] | None
) -> None:
    seen = []
    for until in range(1, 200):
        target = tmp_path / str(until) / "target"
        target.parent.mkdir()
        for name, text in (before or {}).items():
            target.mkdir(exist_ok=True)
            (target / name).write_text(text)
        code = _forked(target, until, way)
        found = contents(target)
        if found is None and before is not None:
            assert way == "without"
            assert contents(target.parent / ".target.old") == OLD
        else:
            assert found in (before, NEW)
        seen.append(found)
        assert code in (0, -signal.SIGKILL)
        assert _forked(target, 0, way) == 0
        assert contents(target) == NEW
        assert names(target.parent) == ["target"]
        if code == 0:
            break
    assert before in seen
    assert seen[-1] == NEW
    assert len(seen) > 8
    assert (None in seen) == (before is None or way == "without")


def _forked(target: Path, until: int, way: str) -> int:
    """Run the writer in a fork; return 0, or minus the signal that ended it (-9)."""
    child = os.fork()
    if child == 0:
        try:
            sys.argv = ["writer", str(target), str(until), way]
            exec(compile(WRITER, "writer", "exec"), {"__name__": "writer"})
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def test_killed_writers_leave_nothing_for_ever_and_running_ones_are_let_be(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    hold = (
        "import sys, time; from pathlib import Path; from subterra.runtime.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as t: t.write_text('held'); print(t, flush=True);"
        " time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(target)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        part = Path(writer.stdout.readline().strip())
        write_json(target, [1])
        assert part.read_text() == "held"
        writer.send_signal(signal.SIGKILL)
    assert part.exists()
    write_json(target, [2])
    assert not part.exists()
    assert json.loads(target.read_text()) == [2]
    assert names(tmp_path) == ["a.json"]


def test_names_of_other_targets_are_no_leftovers(tmp_path: Path) -> None:
    other = tmp_path / ".b.json.0011.part"
    other.write_text("x")
    write_json(tmp_path / "a.json", {})
    assert other.exists()


def test_an_old_folder_left_aside_comes_back_before_the_next_write(tmp_path: Path) -> None:
    old = tmp_path / ".target.old"
    old.mkdir()
    (old / "one").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "target"):
        raise RuntimeError("failed")
    assert contents(tmp_path / "target") == {"one": "old"}


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: p.symlink_to("nowhere")])
def test_a_file_or_link_in_the_way_is_replaced_by_the_folder(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "target")
    with replacing_folder(tmp_path / "target") as folder:
        (folder / "one").write_text("new")
    assert contents(tmp_path / "target") == {"one": "new"}
    assert names(tmp_path) == ["target"]


def test_swapping_fails_softly_where_it_cannot_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not temporary.swap(tmp_path / "missing", tmp_path / "other")
    monkeypatch.setattr("ctypes.CDLL", lambda *a, **k: object())
    assert not temporary.swap(tmp_path / "missing", tmp_path / "other")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "full"), "no space left"),
        (RuntimeError("while serializing: No space left on device (os error 28)"), "no space left"),
        (OSError("[('a', 'b', '[Errno 28] No space left on device')]"), "no space left"),
        (RuntimeError("Read-only file system (os error 30)"), "Read-only file system"),
    ],
)
def test_a_failed_write_is_a_resource_error_whoever_reports_it(
    tmp_path: Path, error: Exception, words: str
) -> None:
    with pytest.raises(ResourceError, match=words), replacing(tmp_path / "a"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_writer_that_gives_no_reason_on_a_full_disk_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_is_full", lambda folder: True)
    with pytest.raises(ResourceError, match="no space left"), replacing(tmp_path / "a"):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), BundleError("ours", hint="x")])
def test_other_failures_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), replacing(tmp_path / "a"):
        raise error


def test_modes_follow_the_umask_and_private_files_do_not(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "open", b"")
    files.write_bytes(tmp_path / "closed", b"", private=True)
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "open").stat().st_mode == plain.stat().st_mode
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o600
