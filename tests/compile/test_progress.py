"""The progress line of a run."""

import time

import pytest

from subterra.compile.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_line_tells_step_loss_speed_and_time_left(clock: list[float]) -> None:
    lines: list[str] = []
    shown = Progress(10, 0, lines.append)
    clock[0] += 30
    shown.step(1, 600, 2.0)
    assert lines == ["step 1/10  loss 2.0000  20 tokens/s  4 min 30 s left"]


def test_lines_are_far_apart_where_nobody_watches_but_the_last_is_shown(
    clock: list[float],
) -> None:
    lines: list[str] = []
    shown = Progress(3, 0, lines.append)
    for step in (1, 2, 3):
        clock[0] += 1
        shown.step(step, 10, 1.0)
    assert [line.split("  ")[0] for line in lines] == ["step 3/3"]
    assert lines[0].endswith("0 s left")


def test_a_resumed_run_reckons_with_its_own_steps_alone(clock: list[float]) -> None:
    lines: list[str] = []
    shown = Progress(100, 90, lines.append)
    clock[0] += 50
    shown.step(95, 100, 1.0)
    assert lines[0].endswith("50 s left")
    assert shown.tokens_per_second == 2
