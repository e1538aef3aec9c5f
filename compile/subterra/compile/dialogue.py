"""Dialogues: turns with their gold node and slots, and the file that keeps them.

Goes in: scenarios, or a JSONL file. Comes out: `Dialogue` objects, or the file. One JSON document a
line; the agent opens, so the first turn has no user text.

    >>> dialogues = list(read_dialogues(Path("build/zoom_support/dialogues/train.jsonl")))
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from subterra.compile.policy import Message, Move
from subterra.compile.procedure import Procedure
from subterra.runtime.errors import InputError
from subterra.runtime.files import replacing
from subterra.runtime.state_line import StateLine

START_INTENT = "start"
"""Stands for the user's intent in the state line of the agent's opening turn."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what the user typed (None at the opening) and the agent's gold answer."""

    user: str | None
    intents: tuple[str, ...]
    node: str
    slots: dict[str, str | None]
    flags: tuple[str, ...]
    reply: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation along one scenario."""

    path: tuple[str, ...]
    turns: tuple[Turn, ...]


def gold_turn(
    procedure: Procedure, user: str | None, message: Message | None, move: Move, reply: str
) -> Turn:
    """Build the gold turn of a move."""
    flags = tuple(name for name in procedure.flags if name in move.state.flags)
    intents = message.intents if message else (START_INTENT,)
    return Turn(user, intents, move.state.node, dict(move.state.slots), flags, reply)


def state_line(turn: Turn) -> StateLine:
    """The state line that opens the turn's reply in a traced recipe."""
    return StateLine(turn.intents, turn.node, tuple(turn.slots.items()), turn.flags)


def write_dialogues(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """Write a JSONL file in one rename."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for dialogue in dialogues:
            file.write(json.dumps(asdict(dialogue), ensure_ascii=False) + "\n")


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Read a JSONL file.

    Raises:
        InputError: the file is missing, or a line is not a dialogue.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read dialogues {path}: {error}", hint="subterra compile"
        ) from None
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            document = json.loads(line)
            turns = tuple(
                Turn(
                    turn["user"],
                    tuple(turn["intents"]),
                    turn["node"],
                    turn["slots"],
                    tuple(turn["flags"]),
                    turn["reply"],
                )
                for turn in document["turns"]
            )
            yield Dialogue(tuple(document["path"]), turns)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not a dialogue ({error})",
                hint="write it again: subterra compile",
            ) from None
