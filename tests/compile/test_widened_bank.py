"""The bank that teachers write: whole at any moment, and signed."""

import json
from pathlib import Path

import pytest

from subterra.compile.bank_document import read_bank_document
from subterra.compile.widened_bank import Author, WidenedBank, authors, has_wordings
from subterra.runtime.errors import UserBankError

LOCAL = Author("local", "instruct.gguf", "", "2026-11-20")
HOST = Author("endpoint", "big", "models.example", "2026-11-21")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users" / "widened.yaml"


def test_the_file_names_its_teachers_and_reads_as_a_bank(path: Path) -> None:
    bank = WidenedBank(path)
    bank.sign(LOCAL)
    bank.add("fixed", ['it\'s back: "sound"', "ça marche {device} 🎉"])
    bank.add("not_fixed", ["# nope"])
    bank.add("fixed", ["yes"])
    document = read_bank_document(path)
    assert not document.problems
    found = {name: [entry.text for entry in held] for name, held in document.intents.items()}
    assert found == {
        "fixed": ['it\'s back: "sound"', "ça marche {device} 🎉", "yes"],
        "not_fixed": ["# nope"],
    }
    assert authors(path) == (LOCAL,)
    assert path.read_text().splitlines()[1].startswith("# teacher: {")


def test_a_teacher_is_named_before_it_has_written_anything(path: Path) -> None:
    WidenedBank(path).sign(HOST)
    assert authors(path) == (HOST,)
    assert not has_wordings(path)
    assert WidenedBank(path).size() == 0


def test_a_later_run_goes_on_and_names_each_teacher_once(path: Path) -> None:
    first = WidenedBank(path)
    first.sign(LOCAL)
    first.add("fixed", ["one"])
    again = WidenedBank(path)
    assert again.wordings("fixed") == ["one"]
    assert again.lacking(["fixed", "not_fixed"], 1) == ["not_fixed"]
    again.sign(Author("local", "instruct.gguf", "", "2026-12-01"))
    again.sign(HOST)
    again.add("fixed", ["two"])
    assert authors(path) == (LOCAL, HOST)
    assert WidenedBank(path).wordings("fixed") == ["one", "two"]
    assert WidenedBank(path).size() == 2


def test_nothing_is_written_where_nothing_is_added(path: Path) -> None:
    WidenedBank(path).add("fixed", [])
    assert not path.exists()


def test_a_bank_that_no_teacher_wrote_is_not_overwritten(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("fixed: [one]\n")
    with pytest.raises(UserBankError, match="names no teacher"):
        WidenedBank(path)
    assert authors(path) == ()


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        "{}",
        '{"kind": "oracle", "model": "m", "host": "", "date": ""}',
        '{"kind": "local", "model": 3, "host": "", "date": ""}',
        '{"kind": "local", "model": "m", "host": "", "date": "", "key": "k"}',
        json.dumps({"kind": "local", "model": "a\x1b[0m", "host": "", "date": ""}),
    ],
)
def test_a_damaged_name_is_refused_with_its_line(path: Path, damage: str) -> None:
    path.parent.mkdir()
    path.write_text(f"# a title\n# teacher: {damage}\nfixed: [one]\n")
    with pytest.raises(UserBankError, match=r"widened\.yaml:2: .* damaged"):
        WidenedBank(path)


@pytest.mark.parametrize(
    "text", ["fixed: [one, One]", "slots: {device: [mac]}\nfixed: [a]", "a: b"]
)
def test_a_damaged_bank_is_refused(path: Path, text: str) -> None:
    path.parent.mkdir()
    WidenedBank(path).sign(LOCAL)
    path.write_text(path.read_text() + text)
    with pytest.raises(UserBankError):
        WidenedBank(path)


def test_a_folder_or_foreign_bytes_are_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserBankError, match="cannot read"):
        authors(path)
    with pytest.raises(UserBankError, match="cannot read"):
        authors(tmp_path)
