"""Several training banks as one, and what the card says of them."""

from pathlib import Path

import pytest

from subterra.compile.bank_merge import load_part, merge_banks
from subterra.compile.bank_origin import assert_held_out, origin
from subterra.compile.general_wording import load_training_bank
from subterra.compile.procedure import Procedure
from subterra.compile.provenance import bank_digests, teacher, written_by
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.widened_bank import Author, WidenedBank
from subterra.runtime.errors import UserBankError
from subterra.runtime.files import sha256_file, write_json

LOCAL = Author("local", "instruct.gguf", "", "2026-11-20")
HOST = Author("endpoint", "big", "models.example", "2026-11-21")


@pytest.fixture
def users(kettle_folder: Path, tmp_path: Path) -> Path:
    """Return a folder with the kettle's training and held-out bank."""
    for name in ("train.yaml", "heldout.yaml"):
        (tmp_path / name).write_bytes((kettle_folder / "users" / name).read_bytes())
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def merged(users: Path, procedure: Procedure, text: str) -> UserBank:
    more = [written(users / "more.yaml", text)]
    return load_training_bank(users / "train.yaml", procedure, users / "heldout.yaml", more=more)


def test_a_part_adds_wordings_and_phrases(users: Path, kettle: Procedure) -> None:
    text = "works: [all done]\nfails+chat: [no but hi]\nslots: {owner: {Finn: [Finn]}}"
    before, bank = load_bank(users / "train.yaml", kettle), merged(users, kettle, text)
    assert bank.intents["works"] == (*before.intents["works"], "all done")
    assert bank.intents["fails+chat"] == ("no but hi",)
    assert bank.intents["fails"] == before.intents["fails"]
    assert bank.slots["owner"] == {**before.slots["owner"], "Finn": ("Finn",)}
    assert bank.more == (users / "more.yaml",)
    assert bank.path == users / "train.yaml"
    assert not bank.warnings


def test_what_repeats_the_first_bank_is_left_out_with_a_note(
    users: Path, kettle: Procedure
) -> None:
    bank = merged(users, kettle, "works: [It works!, YES FINE, all done]")
    assert bank.intents["works"] == ("it works", "yes fine", "all done")
    (note,) = bank.warnings
    assert "more.yaml goes without 2 wordings that are there already: 'It works!'" in note


def test_what_means_something_else_in_the_first_bank_is_noted(
    users: Path, kettle: Procedure
) -> None:
    bank = merged(users, kettle, "fails: [It works]")
    (note,) = bank.warnings
    assert "more.yaml:1: 'It works' (fails) also means works" in note


def test_a_part_may_not_hold_held_out_wording(users: Path, kettle: Procedure) -> None:
    with pytest.raises(UserBankError, match="in both banks") as caught:
        merged(users, kettle, "works: [Great now!]")
    assert f"{users / 'more.yaml'}:1" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the bank is empty"),
        ("# teacher: {}\n", "the bank is empty"),
        ("work: [a]", "unknown intent 'work'"),
        ("works: []", "has no wordings"),
        ("works: ['{place}']", "unknown placeholder"),
        ("works: [a]\nslots: {owners: [a]}", "unknown slot 'owners'"),
        ("works: [a]\nslots: {fault: {boom: [a]}}", "has no value 'boom'"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(
    users: Path, kettle: Procedure, text: str, words: str
) -> None:
    with pytest.raises(UserBankError, match=words):
        merged(users, kettle, text)


def test_a_placeholder_without_phrases_is_refused(
    users: Path, kettle: Procedure, kettle_bank: UserBank
) -> None:
    part = load_part(written(users / "more.yaml", "works: ['{owner}, done']"), kettle)
    bare = UserBank(kettle_bank.path, kettle_bank.intents, {})
    with pytest.raises(UserBankError, match=r"more\.yaml:1: no bank has phrases for '{owner}'"):
        merge_banks(bare, [part], kettle)


def test_a_first_bank_must_be_whole(users: Path, kettle: Procedure) -> None:
    part = written(users / "more.yaml", "works: [all done]")
    with pytest.raises(UserBankError, match="no wordings for the procedure's intent"):
        load_training_bank(part, kettle, more=[users / "train.yaml"])


def widened(users: Path, *by: Author, texts: tuple[str, ...] = ("all done",)) -> Path:
    bank = WidenedBank(users / "widened.yaml")
    for author in by:
        bank.sign(author)
    bank.add("works", texts)
    return bank.path


def test_a_bank_from_hand_is_by_the_teacher_bank(users: Path, kettle: Procedure) -> None:
    bank = load_training_bank(users / "train.yaml", kettle)
    assert teacher(bank) == {"kind": "bank", "disclosed_to": []}
    assert written_by(bank) == []
    assert bank_digests(bank) == {"users": sha256_file(users / "train.yaml")}


@pytest.mark.parametrize(
    ("by", "kind", "hosts"),
    [
        ([LOCAL], "local", []),
        ([HOST], "endpoint", ["models.example"]),
        ([LOCAL, HOST], "endpoint", ["models.example"]),
    ],
)
def test_the_card_names_teacher_and_host(
    users: Path, kettle: Procedure, by: list[Author], kind: str, hosts: list[str]
) -> None:
    path = widened(users, *by)
    bank = load_training_bank(users / "train.yaml", kettle, more=[path])
    assert teacher(bank) == {"kind": kind, "disclosed_to": hosts}
    assert [author["model"] for author in written_by(bank)] == [author.model for author in by]
    assert bank_digests(bank)["users_2"] == sha256_file(path)


def test_a_host_that_was_asked_is_named_even_if_its_wordings_are_not_used(
    users: Path, kettle: Procedure
) -> None:
    widened(users, HOST, texts=())
    bank = load_training_bank(users / "train.yaml", kettle)
    assert teacher(bank) == {"kind": "bank", "disclosed_to": ["models.example"]}


def test_a_score_on_any_of_the_banks_is_a_score_on_training(users: Path, kettle: Procedure) -> None:
    path = widened(users, LOCAL)
    bank = load_training_bank(users / "train.yaml", kettle, more=[path])
    work = users / "work"
    (work / "adapter").mkdir(parents=True)
    card = {"base": {"id": "b", "sha256": "0"}, "inputs": {"procedure": "1", **bank_digests(bank)}}
    write_json(work / "adapter" / "subterra.json", card)
    for part in (load_bank(users / "train.yaml", kettle), load_part(path, kettle)):
        assert origin(work, part) == "training"
    assert origin(work, load_bank(users / "heldout.yaml", kettle)) == "other"


def test_scoring_refuses_a_bank_that_shares_wording_with_the_widened_one(
    users: Path, kettle: Procedure
) -> None:
    heldout = load_bank(users / "heldout.yaml", kettle)
    widened(users, LOCAL, texts=())
    assert_held_out(heldout, kettle)
    widened(users, LOCAL, texts=("all done",))
    assert_held_out(heldout, kettle)
    widened(users, LOCAL, texts=("great now",))
    with pytest.raises(UserBankError, match=r"widened\.yaml"):
        assert_held_out(heldout, kettle)
