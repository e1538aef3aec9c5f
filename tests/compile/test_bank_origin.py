"""Whether a bank is the one that an agent was trained on."""

import json
from pathlib import Path

import pytest

from subterra.compile.bank_origin import assert_held_out, measures_memory, origin
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import load_bank
from subterra.runtime.errors import UserBankError
from subterra.runtime.files import sha256_file


def write_card(work: Path, users: str) -> None:
    path = work / "merged" / "subterra.json"
    card = json.loads(path.read_text()) | {"inputs": {"users": users}}
    path.write_text(json.dumps(card))


def test_the_card_tells_by_the_digest(work: Path, kettle: Procedure, kettle_folder: Path) -> None:
    train, heldout = (
        load_bank(kettle_folder / "users" / name, kettle) for name in ("train.yaml", "heldout.yaml")
    )
    assert origin(work, heldout) == "unknown"
    write_card(work, sha256_file(train.path))
    assert (origin(work, train), origin(work, heldout)) == ("training", "other")
    assert measures_memory("training", heldout)
    assert measures_memory("unknown", train)
    assert not measures_memory("unknown", heldout)


def test_an_agent_that_keeps_silent_or_has_a_damaged_card_is_unknown(
    work: Path, tmp_path: Path, kettle: Procedure, kettle_folder: Path
) -> None:
    bank = load_bank(kettle_folder / "users" / "heldout.yaml", kettle)
    assert origin(tmp_path, bank) == "unknown"
    (work / "merged" / "subterra.json").write_text("{")
    assert origin(work, bank) == "unknown"


def test_a_bank_that_shares_wording_with_the_training_bank_beside_it_is_refused(
    tmp_path: Path, kettle: Procedure, kettle_folder: Path
) -> None:
    for name in ("train.yaml", "heldout.yaml"):
        (tmp_path / name).write_bytes((kettle_folder / "users" / name).read_bytes())
    assert_held_out(load_bank(tmp_path / "heldout.yaml", kettle), kettle)
    assert_held_out(load_bank(tmp_path / "train.yaml", kettle), kettle)
    mixed = (tmp_path / "heldout.yaml").read_text().replace("I am out", "Forget it!")
    (tmp_path / "heldout.yaml").write_text(mixed)
    with pytest.raises(UserBankError, match="in both banks"):
        assert_held_out(load_bank(tmp_path / "heldout.yaml", kettle), kettle)
