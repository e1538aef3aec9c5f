"""Transcripts show what was said, and where the agent went wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Procedure
from subterra.compile.rollout import Conversation
from subterra.compile.transcript import transcript, write_transcripts
from subterra.compile.user_bank import UserBank

Talk = Callable[..., list[Conversation]]


def test_a_wrong_turn_is_marked_with_what_it_should_have_been(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    def resign(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "done":
            return replace(step, state=replace(step.state, node="gone"))
        return step

    conversations = talk(kettle, kettle_bank, 20, behave=resign)
    lost = next(c for c in conversations if c.scenario.path[-1] == "done")
    lines = transcript(lost).splitlines()
    assert lines[0].startswith("scenario: hello > ")
    assert "fault=" in lines[0]
    assert [line[0] for line in lines if "agent  " in line][-1] == "!"
    assert lines[-2:] == [
        "         should be at: done",
        "  ended at: gone, should end at: done",
    ]
    assert "  //  " in lines[1]


def test_every_message_stands_with_its_key(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    (conversation,) = talk(kettle, kettle_bank, 1)
    said = [e.utterance for e in conversation.exchanges if e.utterance]
    lines = [line for line in transcript(conversation).splitlines() if "  user   " in line]
    assert lines == [f"  user   {u.text}    [{u.key}]" for u in said]


def test_a_file_without_failures_says_so(tmp_path: Path) -> None:
    write_transcripts(tmp_path / "lost.txt", [])
    assert (tmp_path / "lost.txt").read_text() == "no failures\n"


def test_all_conversations_go_to_the_file(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank, tmp_path: Path
) -> None:
    write_transcripts(tmp_path / "lost.txt", talk(kettle, kettle_bank, 3))
    assert (tmp_path / "lost.txt").read_text().count("scenario: ") == 3
