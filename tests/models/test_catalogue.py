"""The catalogue is complete, and wrong entries or ids are named."""

from pathlib import Path

import pytest

from subterra.models import catalogue as module
from subterra.models.catalogue import base_model, catalogue
from subterra.runtime.errors import BaseModelError


def test_the_packaged_base_ends_a_turn_with_im_end() -> None:
    model = base_model("smollm2-135m-instruct")
    assert (model.end_of_turn, model.end_of_turn_id) == ("<|im_end|>", 2)
    assert (model.start_of_turn, model.start_of_turn_id) == ("<|im_start|>", 1)
    assert model.pad_id != model.end_of_turn_id
    assert len(model.sha256) == 64


def test_an_unknown_id_lists_the_known_ones_and_hints_at_the_nearest() -> None:
    with pytest.raises(BaseModelError, match=r"'smollm2-135m'; known: smollm2-135m-instruct") as e:
        base_model("smollm2-135m")
    assert "--base smollm2-135m-instruct" in e.value.hint


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sizee": 3}, "unknown key 'sizee'"),
        ({"layers": "30"}, "'layers' has the wrong type"),
        ({"sha256": None}, "missing key 'sha256'"),
    ],
)
def test_a_wrong_entry_is_named(
    change: dict[str, object],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = base_model("smollm2-135m-instruct")
    entry = {name: getattr(model, name) for name in model.__dataclass_fields__} | change
    lines = [f"{k} = {v!r}" for k, v in entry.items() if v is not None]
    (tmp_path / "catalogue.toml").write_text("[[base]]\n" + "\n".join(lines))
    monkeypatch.setattr(module, "CATALOGUE", tmp_path / "catalogue.toml")
    catalogue.cache_clear()
    try:
        with pytest.raises(BaseModelError, match=problem):
            catalogue()
    finally:
        monkeypatch.undo()
        catalogue.cache_clear()
