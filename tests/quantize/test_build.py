"""The verb `build` gives its stages what the user asked for."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from subterra.compile.settings import TrainSettings
from subterra.compile.validation import load_procedure
from subterra.quantize import build
from subterra.quantize.report_wiring import ScoreOptions
from subterra.runtime.errors import UsageError

EXAMPLE = Path("examples/zoom_support").resolve()


def arguments(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    return parser.parse_args([str(EXAMPLE), *options])


def test_training_takes_the_base_and_the_number_of_dialogues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def train_adapter(*found: Any, processes: int) -> Path:
        calls.append((*found, processes))
        return Path(found[3])

    monkeypatch.setattr(build, "train_adapter", train_adapter)
    monkeypatch.setattr(build, "write_samples", lambda *args, **options: None)
    procedure = load_procedure(EXAMPLE)
    args = arguments("--train", "--base", "another", "--dialogues", "7", "--processes", "3")
    assert build._adapter(args, procedure, EXAMPLE / "users", tmp_path) == tmp_path / "adapter"
    ((base, given, bank, adapter, settings, processes),) = calls
    assert (base, given) == ("another", procedure)
    assert processes == 3
    assert (bank.path, adapter) == (EXAMPLE / "users" / "train.yaml", tmp_path / "adapter")
    assert asdict(settings) == asdict(TrainSettings()) | {"dialogues": 7}


@pytest.mark.parametrize("option", [("--dialogues", "0"), ("--processes", "-1")])
def test_a_number_that_is_too_small_is_refused(option: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=option[0]):
        build._settings(arguments(*option))


@pytest.mark.parametrize(("conversations", "scored"), [(5, True), (0, False)])
def test_success_is_measured_unless_no_conversation_is_wanted(
    conversations: int, scored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(build, "make_report", lambda *found: calls.append(found))
    args = arguments("--conversations", str(conversations), "--limit", "3")
    build._report(args, tmp_path, EXAMPLE / "users" / "heldout.yaml")
    ((work, dialogues, limit, score, _),) = calls
    assert (work, dialogues, limit) == (tmp_path, tmp_path / "dialogues" / "heldout.jsonl", 3)
    assert isinstance(score, ScoreOptions)
    assert (score.users is not None) == scored
    assert score.conversations == conversations
    assert score.onnx_conversations == build.ONNX_CONVERSATIONS
