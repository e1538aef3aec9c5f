"""Finding what is to be scored: a variant in a work folder, or a sealed agent."""

import json
from pathlib import Path

import pytest

from subterra.compile.agent_source import find_agent, known_recipe
from subterra.runtime.errors import BundleError, UsageError


def test_a_variant_of_a_work_folder_brings_its_tokenizer_and_recipe(work: Path) -> None:
    source = find_agent(work, "Q4_0")
    assert (source.name, source.variant, source.engine) == ("kettle", "Q4_0", "llama.cpp")
    assert source.model == work / "variants" / "Q4_0.gguf"
    assert source.tokenizer == work / "merged" / "tokenizer.json"
    assert (source.system, source.recipe) == ("You mend kettles.", "traced")


def test_without_a_name_q8_0_is_taken(work: Path) -> None:
    assert find_agent(work, None).variant == "Q8_0"


def test_a_variant_that_is_a_folder_is_for_onnx_runtime(work: Path) -> None:
    (work / "variants" / "onnx-int8").mkdir()
    assert find_agent(work, "onnx-int8").engine == "onnxruntime"


def test_a_variant_that_is_not_there_is_named_with_those_that_are(work: Path) -> None:
    (work / "variants" / ".F16.gguf").mkdir()
    with pytest.raises(UsageError, match=r"no variant 'F16' \(it has: Q4_0, Q8_0\)") as caught:
        find_agent(work, "F16")
    assert "--variants F16" in caught.value.hint


def test_a_work_folder_without_variants_says_that_it_has_none(work: Path) -> None:
    for file in (work / "variants").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match="it has: none"):
        find_agent(work, None)


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a sealed agent nor a work folder"):
        find_agent(tmp_path, None)


def test_a_sealed_agent_is_verified_before_it_is_scored(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        find_agent(tmp_path, None)


def test_an_unknown_recipe_is_refused(work: Path) -> None:
    card = json.loads((work / "merged" / "subterra.json").read_text())
    (work / "merged" / "subterra.json").write_text(json.dumps(card | {"recipe": "spoken"}))
    with pytest.raises(UsageError, match="recipe 'spoken' is unknown"):
        find_agent(work, None)
    assert known_recipe("plain") == "plain"
