"""The teacher `bank`: gold dialogues, the same bytes for the same seed."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from subterra.compile.procedure import Edge, Node, Procedure
from subterra.compile.teacher_bank import MAX_TURNS, agent_paths, dialogues
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import CLEAN
from subterra.runtime.errors import ProcedureError

PRINT_DIALOGUES = """
import sys
from itertools import islice
from pathlib import Path
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure
folder = Path(sys.argv[1])
procedure = load_procedure(folder)
bank = load_bank(folder / "users" / "train.yaml", procedure)
for dialogue in islice(dialogues(procedure, bank, 0), 40):
    print(dialogue)
"""


def test_the_same_seed_gives_the_same_dialogues_and_another_seed_others(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    first, again, other = (
        [*islice(dialogues(kettle, kettle_bank, seed), 20)] for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_another_process_with_other_string_hashes_writes_the_same_dialogues(
    kettle_folder: Path,
) -> None:
    command = [sys.executable, "-c", PRINT_DIALOGUES, str(kettle_folder)]
    outputs = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "4")  # they order the two slots differently
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"Dialogue(") == 40


def test_every_dialogue_opens_with_the_agent_and_ends_where_its_path_does(
    zoom: Procedure, zoom_bank: UserBank
) -> None:
    for dialogue in islice(dialogues(zoom, zoom_bank, 0, noise=CLEAN), 150):
        first, *rest = dialogue.turns
        assert (first.user, first.intents, first.node) == (None, ("start",), zoom.start)
        assert all(turn.user for turn in rest)
        assert dialogue.turns[-1].node == dialogue.path[-1]
        assert len(dialogue.turns) < MAX_TURNS


def test_every_mandatory_node_of_the_path_is_passed_in_order(
    zoom: Procedure, zoom_bank: UserBank
) -> None:
    for dialogue in islice(dialogues(zoom, zoom_bank, 1), 150):
        passed = iter([turn.node for turn in dialogue.turns])
        required = [name for name in dialogue.path if zoom.node(name).mandatory]
        assert all(name in passed for name in required)


def test_the_state_of_a_dialogue_ends_with_the_truth(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    finished = [
        dialogue.turns[-1]
        for dialogue in islice(dialogues(kettle, kettle_bank, 0), 60)
        if dialogue.path[-1] == "done"
    ]
    assert finished
    assert all(None not in turn.slots.values() for turn in finished)


def test_corrections_asides_and_piecemeal_answers_all_occur(
    zoom: Procedure, zoom_bank: UserBank
) -> None:
    said = {
        intent
        for dialogue in islice(dialogues(zoom, zoom_bank, 0), 200)
        for turn in dialogue.turns
        for intent in turn.intents
    }
    assert said == {*zoom.intent_names(), "start"}


def test_the_paths_of_dialogues_have_no_hubs_and_no_repeats(zoom: Procedure) -> None:
    paths = agent_paths(zoom)
    assert len(set(paths)) == len(paths) > 60
    hubs = {node.name for node in zoom.of_kind("hub")}
    assert not any(hubs & set(path) for path in paths)


def test_a_procedure_whose_end_no_path_reaches_is_refused() -> None:
    nodes = (
        Node("a", "agent", next="h"),
        Node("h", "hub", edges=(Edge("a", ""),)),
        Node("end", "terminal"),
    )
    with pytest.raises(ProcedureError, match="no path of g leads to an end"):
        agent_paths(Procedure("g", "G", "S", "a", (), (), (), (), (), nodes))
