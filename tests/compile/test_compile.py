"""The verb `compile`, from a procedure to an adapter on the tiny base."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from subterra.compile import compile as compiling
from subterra.compile.card import ADAPTER_FILE, CARD_FILE, FULL_FILE, read_card
from subterra.compile.dialogue import read_dialogues
from subterra.compile.merge import merge
from subterra.compile.settings import TrainSettings
from subterra.compile.widened_bank import Author, WidenedBank
from subterra.runtime.cli import main
from subterra.runtime.errors import AdapterError, ProcedureError, UsageError, UserBankError
from subterra.runtime.files import sha256_file

QUICK = ("--dialogues", "6", "--batch", "2", "--rank", "2")
Compile = Callable[..., dict[str, Any]]


@pytest.fixture
def compiled(
    kettle_folder: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Compile:
    """Run the verb in `tmp_path / "work"`; its JSON, and what it told people as `told`."""
    quick = replace(TrainSettings(), validations=2, validation_dialogues=4)
    monkeypatch.setattr(compiling, "TrainSettings", lambda: quick)
    monkeypatch.setattr(compiling, "SAMPLE_DIALOGUES", 10)
    monkeypatch.setattr(compiling, "HELDOUT_DIALOGUES", 5)

    def compiled(*options: str, procedure: Path = kettle_folder) -> dict[str, Any]:
        arguments = ["compile", str(procedure), "--out", str(tmp_path / "work"), "--json"]
        assert main([*arguments, "--base", str(tiny_checkpoint), *QUICK, *options]) == 0
        shown = capsys.readouterr()
        return {**json.loads(shown.out), "told": shown.err}

    return compiled


def test_a_procedure_becomes_an_adapter_that_merges(
    compiled: Compile, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    found = compiled()
    work = tmp_path / "work"
    assert found["adapter"] == str(work / "adapter")
    assert f"next: subterra merge {work} --base {tiny_checkpoint}" in found["told"]
    card = read_card(work / "adapter")
    assert (card["recipe"], card["method"], card["name"]) == ("traced", "lora", "kettle")
    assert card["teacher"] == {"kind": "bank", "disclosed_to": []}
    assert {"torch", "transformers", "peft", "subterra"} <= card["tools"].keys()
    assert {len(digest) for digest in card["inputs"].values()} == {64}
    assert list(card["inputs"]) == ["procedure", "users", "general_wording"]
    merged = merge(work / "adapter", work / "merged", base_name=str(tiny_checkpoint))
    assert (merged / FULL_FILE).exists()


def test_a_widened_bank_trains_too_and_the_card_tells_who_wrote_it(
    compiled: Compile, tmp_path: Path, kettle_folder: Path
) -> None:
    widened = WidenedBank(tmp_path / "widened.yaml")
    widened.sign(Author("endpoint", "big", "models.example", "2026-11-22"))
    widened.add("works", ["all done", "It works!"])
    train = kettle_folder / "users" / "train.yaml"
    found = compiled("--users", str(train), "--users", str(widened.path))
    assert "goes without 1 wording that is there already: 'It works!'" in found["told"]
    card = read_card(tmp_path / "work" / "adapter")
    assert card["teacher"] == {"kind": "endpoint", "disclosed_to": ["models.example"]}
    assert card["widened_by"][0]["model"] == "big"
    assert card["inputs"]["users"] == sha256_file(train)
    assert card["inputs"]["users_2"] == sha256_file(widened.path)
    assert "is up to date" not in compiled()["told"]


def test_dialogues_of_both_banks_are_written_to_look_at(compiled: Compile, tmp_path: Path) -> None:
    compiled("--dialogues-only")
    folder = tmp_path / "work" / "dialogues"
    train, heldout = ([*read_dialogues(folder / f"{name}.jsonl")] for name in ("train", "heldout"))
    assert (len(train), len(heldout)) == (10, 5)
    owners = [
        {d.turns[-1].slots["owner"] for d in dialogues} - {None} for dialogues in (train, heldout)
    ]
    assert owners[0] & {"Anna", "Ben", "Cleo"}
    assert not owners[0] & {"Dora", "Emil"}
    assert owners[1] <= {"Dora", "Emil"}


def test_with_dialogues_only_nothing_is_trained(
    compiled: Compile, tmp_path: Path, kettle_folder: Path
) -> None:
    found = compiled("--dialogues-only")
    assert found["adapter"] is None
    assert f"next: subterra compile {kettle_folder}" in found["told"]
    assert not (tmp_path / "work" / "adapter").exists()


def test_the_plain_recipe_and_full_training_go_the_same_way(
    compiled: Compile, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    compiled("--recipe", "plain", "--method", "full")
    card = read_card(tmp_path / "work" / "adapter")
    assert (card["recipe"], card["method"]) == ("plain", "full")
    assert card["settings"]["learning_rate"] == 1e-4
    merged = merge(
        tmp_path / "work" / "adapter", tmp_path / "work" / "merged", base_name=str(tiny_checkpoint)
    )
    assert read_card(merged)["recipe"] == "plain"


def test_a_second_run_with_the_same_inputs_trains_nothing(
    compiled: Compile, tmp_path: Path
) -> None:
    compiled()
    before = (tmp_path / "work" / "adapter" / ADAPTER_FILE).stat()
    assert "is up to date" in compiled()["told"]
    assert (tmp_path / "work" / "adapter" / ADAPTER_FILE).stat() == before
    assert "is up to date" not in compiled("--rank", "3")["told"]


def test_training_may_go_on_from_an_adapter(compiled: Compile, tmp_path: Path) -> None:
    compiled()
    first = (tmp_path / "work" / "adapter").rename(tmp_path / "first")
    compiled("--continue-from", str(first), "--seed", "1")
    card = read_card(tmp_path / "work" / "adapter")
    assert card["inputs"]["continued_from"] == sha256_file(first / ADAPTER_FILE)
    assert (tmp_path / "work" / "adapter" / ADAPTER_FILE).read_bytes() != (
        first / ADAPTER_FILE
    ).read_bytes()


@pytest.mark.parametrize("name", [CARD_FILE, ADAPTER_FILE])
def test_a_damaged_adapter_folder_is_trained_anew(
    compiled: Compile, tmp_path: Path, name: str
) -> None:
    adapter = tmp_path / "work" / "adapter"
    compiled()
    weights = (adapter / ADAPTER_FILE).read_bytes()
    if name == CARD_FILE:
        (adapter / name).write_text("{")
    else:
        (adapter / name).unlink()
    assert "is up to date" not in compiled()["told"]
    assert (adapter / ADAPTER_FILE).read_bytes() == weights


def test_a_procedure_may_be_named_by_its_file_whatever_it_is_called(
    compiled: Compile, tmp_path: Path, kettle_folder: Path
) -> None:
    file = tmp_path / "flow.yaml"
    file.write_bytes((kettle_folder / "procedure.yaml").read_bytes())
    users = kettle_folder / "users" / "train.yaml"
    compiled("--users", str(users), procedure=file)
    assert (tmp_path / "work" / "adapter" / ADAPTER_FILE).exists()


def test_a_training_bank_that_holds_held_out_wording_is_refused(
    kettle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "procedure.yaml").write_bytes((kettle_folder / "procedure.yaml").read_bytes())
    bank = (kettle_folder / "users" / "train.yaml").read_bytes()
    (tmp_path / "users" / "train.yaml").write_bytes(bank)
    (tmp_path / "users" / "heldout.yaml").write_bytes(bank)
    code = main(["compile", str(tmp_path), "--out", str(tmp_path / "work")])
    assert code == UserBankError.exit_code
    assert "in both banks" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "options",
    [("--dialogues", "0"), ("--batch", "0"), ("--rank", "-1"), ("--alpha", "0"), ("--rate", "-1")],
)
def test_numbers_that_make_no_sense_are_refused(
    kettle_folder: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(kettle_folder), *options]) == UsageError.exit_code
    assert options[0] in capsys.readouterr().err


def test_a_folder_without_an_adapter_is_nothing_to_go_on_from(
    kettle_folder: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(kettle_folder), "--out", str(tmp_path / "work")]
    options = ["--base", str(tiny_checkpoint), "--continue-from", str(tmp_path)]
    assert main([*arguments, *options]) == AdapterError.exit_code
    assert f"holds no {ADAPTER_FILE}" in capsys.readouterr().err


def test_a_missing_procedure_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "none")]) == ProcedureError.exit_code
    assert "none" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_compiles_on_the_real_base(
    real_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(TrainSettings(), validations=1, validation_dialogues=4)
    monkeypatch.setattr(compiling, "TrainSettings", lambda: quick)
    example = Path(__file__).parents[2] / "examples" / "zoom_support"
    arguments = ["compile", str(example), "--out", str(tmp_path), "--base", str(real_base)]
    assert main([*arguments, "--dialogues", "4", "--batch", "2"]) == 0
    merged = merge(tmp_path / "adapter", tmp_path / "merged", base_name=str(real_base))
    assert read_card(merged)["slots"] == ["issue", "device"]
