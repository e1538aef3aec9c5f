from datetime import datetime
from pathlib import Path

import pytest

from subterra.runtime.errors import ResourceError
from subterra.tui.transcript import Transcript


def sample() -> Transcript:
    transcript = Transcript("Zoom support")
    transcript.add("agent", "Hello.", "start > welcome | ?")
    transcript.add("user", "no sound")
    transcript.add("agent", "Click", "report audio > fix audio | audio", "stopped")
    return transcript


def test_turns_are_labelled_paragraphs() -> None:
    assert sample().as_text() == (
        "Zoom support\n\nAgent: Hello.\n\nYou: no sound\n\nAgent: Click (stopped)\n"
    )


def test_state_lines_are_there_for_an_operator_only() -> None:
    assert "State: start > welcome | ?\nAgent: Hello." in sample().as_text(states=True)
    assert "State:" not in sample().as_text()


def test_the_last_reply_is_the_agents() -> None:
    transcript = sample()
    transcript.add("user", "hm")
    assert transcript.last_reply == "Click"
    assert Transcript("x").last_reply == ""


def test_a_full_transcript_drops_its_oldest_turns_and_says_so() -> None:
    transcript = Transcript("Zoom support", limit=2)
    for number in range(5):
        transcript.add("user", str(number))
    assert len(transcript) == 2
    assert "(The first 3 turns are not kept.)" in transcript.as_text()
    assert transcript.copy().as_text() == transcript.as_text()


def test_export_writes_one_dated_file(tmp_path: Path) -> None:
    path = sample().export(tmp_path, datetime(2026, 1, 2, 3, 4, 5))
    assert path.name == "transcript-2026-01-02-030405.txt"
    assert path.read_text() == sample().as_text()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_export_to_a_missing_place_is_our_own_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResourceError):
        sample().export(blocked, datetime(2026, 1, 2))
