"""The lock-down, each case in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subterra.runtime import landlock, seccomp
from subterra.runtime.errors import GuardError
from subterra.runtime.guard import GuardStatus, Layer, lock_down, missing_layers

CASES = Path(__file__).with_name("guard_cases.py")
needs_kernel = pytest.mark.skipif(bool(missing_layers()), reason="; ".join(missing_layers()))
pytestmark = needs_kernel


def run_case(case: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> Any:
    done = subprocess.run(
        [sys.executable, str(CASES), case, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        pass_fds=pass_fds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_this_kernel_has_both_layers() -> None:
    assert landlock.abi() >= 1
    assert seccomp.available()


def test_all_five_layers_come_into_force() -> None:
    report = run_case("layers")
    assert report["sealed"]
    assert report["layers"] == [
        "descriptors",
        "shared memory",
        "privileges",
        "seccomp",
        "landlock",
    ]


def test_what_is_allowed_works_and_everything_else_does_not(tmp_path: Path) -> None:
    allowed, elsewhere = tmp_path / "state", tmp_path / "home"
    allowed.mkdir()
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("x")
    assert run_case("basics", allowed, elsewhere) == {
        "sealed": True,
        "read": "ok",
        "read elsewhere": "EACCES",
        "list elsewhere": "EACCES",
        "write": "ok",
        "replace": "ok",
        "write elsewhere": "EACCES",
        "truncate elsewhere": "EACCES",
        "link elsewhere": "EACCES",
        "socket": "EPERM",
        "pair": "ok",
        "pair, addressed": "EPERM",
        "fork": "EPERM",
        "exec": "EPERM",
        "subprocess": "EPERM",
        "signal to the parent": "EPERM",
        "signal to itself": "ok",
        "utime": "EPERM",
        "mode": "EPERM",
        "run a file": "EACCES",
    }
    assert (elsewhere / "secret").read_text() == "x"


def test_threads_from_before_and_after_are_held(tmp_path: Path) -> None:
    report = run_case("threads", tmp_path)
    assert report["socket"] == report["shell"] == report["late"] == "EPERM"
    assert report["file"] == "EACCES"
    assert report["threads"] == report["counted"][0] == report["counted"][1] >= 9


def test_a_thread_that_blocks_every_signal_is_named_and_nothing_starts() -> None:
    assert "blocks signals and stays outside" in run_case("blocked_signals")["refused"]


def test_channels_from_before_are_closed_and_own_pairs_stay(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        report = run_case("descriptors", theirs.fileno(), tmp_path, pass_fds=(theirs.fileno(),))
    assert report == {
        "inherited": "EBADF",
        "listening": "EBADF",
        "own pair": "okok",
        "reading": "ok",
        "writing": "EBADF",
        "kept": "ok",
    }


def test_event_loops_work_when_started_before_and_after() -> None:
    assert run_case("event_loops") == {"before": True, "after": True}


def test_writable_shared_memory_is_refused() -> None:
    assert "shared memory (/dev/zero" in run_case("shared_memory")["refused"]


def test_an_ordinary_user_is_held_as_well(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    report = run_case("unprivileged", tmp_path)
    assert report["uid"] != 0
    assert report["sealed"]
    assert report["socket"] == "EPERM"
    assert report["file"] == "EACCES"
    assert report["product"] == 64.0


def test_a_missing_layer_is_named_and_best_effort_says_so() -> None:
    report = run_case("missing_layer")
    assert "landlock (needs Linux 5.13" in report["refused"]
    assert "--guard best-effort" in report["refused"]
    assert report["refused"].endswith("| 6")
    assert not report["sealed"]
    assert report["summary"] == "not sealed: landlock"
    assert report["socket"] == "EPERM"


def test_the_guard_can_be_switched_off() -> None:
    assert run_case("switched_off") == {"sealed": False, "socket": "ok"}


def test_the_process_gains_nothing_and_cannot_be_traced() -> None:
    assert run_case("traceable") == {"dumpable": 0, "no_new_privs": 1}


def test_a_path_that_does_not_exist_is_named_before_anything_is_locked(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="none: it does not exist"):
        lock_down(read=[tmp_path / "none"])


def test_another_system_names_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(GuardError, match=r"landlock \(needs Linux, this is darwin\)"):
        lock_down()


def test_a_status_is_sealed_only_with_every_layer_and_thread() -> None:
    good, bad = Layer("a", True, ""), Layer("b", False, "")
    assert GuardStatus("required", (good,), 3, 3).sealed
    assert not GuardStatus("required", (good, bad), 3, 3).sealed
    assert not GuardStatus("required", (good,), 3, 2).sealed
    assert not GuardStatus("required", (), 1, 1).sealed
    assert GuardStatus("required", (good,), 3, 3).summary() == "sealed: 1 layers, 3 threads"
