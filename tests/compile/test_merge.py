"""Merging: the same logits as base and adapter together, and no foreign or damaged adapter."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subterra.compile.card import ADAPTER_FILE, CARD_FILE, FULL_FILE, read_card
from subterra.compile.merge import merge
from subterra.compile.model import load_trainable, save_trained, trained_state
from subterra.compile.settings import TrainSettings
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.cli import main
from subterra.runtime.errors import AdapterError

CONFIG = "adapter_config.json"


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path) -> Base:
    return resolve_base(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def made(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an adapter that changes the base a lot."""
    model = load_trainable(base, TrainSettings(rank=4, alpha=8))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    folder = tmp_path_factory.mktemp("made") / "adapter"
    card = {"base": {"id": base.id, "sha256": base.sha256}, "recipe": "traced", "name": "kettle"}
    save_trained(folder, model, trained_state(model), card)
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "work" / "adapter")


@pytest.fixture
def refused(base: Base, adapter: Path) -> Callable[[str], AdapterError]:
    """Merge in vain; nothing may be left behind."""

    def refused(match: str) -> AdapterError:
        target = adapter.parent / "merged"
        with pytest.raises(AdapterError, match=match) as caught:
            merge(adapter, target, base_name=str(base.path))
        assert not target.exists()
        assert caught.value.hint
        return caught.value

    return refused


def logits(folder: Path, ids: Tensor, adapter: Path | None = None) -> Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids).logits
    return found


def test_merged_logits_are_those_of_base_and_adapter(base: Base, adapter: Path) -> None:
    merged = merge(adapter, adapter.parent / "merged", base_name=str(base.path))
    ids = torch.randint(3, 250, (2, 32), generator=torch.Generator().manual_seed(0))
    together, alone = logits(base.path, ids, adapter), logits(base.path, ids)
    found = logits(merged, ids)
    assert (found - together).norm() / together.norm() < 0.003  # what fp16 rounds away
    assert (alone - together).norm() / together.norm() > 0.1


def test_a_merged_folder_has_the_bases_tokenizer_and_a_card(base: Base, adapter: Path) -> None:
    merged = merge(adapter, adapter.parent / "merged", base_name=str(base.path))
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (merged / name).read_bytes() == (base.path / name).read_bytes()
    card = read_card(merged)
    assert (card["recipe"], card["name"]) == ("traced", "kettle")
    assert len(card["adapter_sha256"]) == 64


def test_merging_twice_gives_the_same_bytes(base: Base, adapter: Path) -> None:
    first, second = (
        merge(adapter, adapter.parent / name, base_name=str(base.path)) for name in ("a", "b")
    )
    assert (first / FULL_FILE).read_bytes() == (second / FULL_FILE).read_bytes()
    assert (first / CARD_FILE).read_bytes() == (second / CARD_FILE).read_bytes()


def test_what_is_up_to_date_is_left_alone(base: Base, adapter: Path) -> None:
    target = adapter.parent / "merged"
    merge(adapter, target, base_name=str(base.path))
    before = (target / FULL_FILE).stat()
    merge(adapter, target, base_name="not-needed-any-more")
    assert (target / FULL_FILE).stat() == before


@pytest.mark.parametrize("card", ["{", "{}", '{"base": {"id": "x", "sha256": "y"}}'])
def test_a_merged_folder_that_is_damaged_or_stale_is_made_anew(
    base: Base, adapter: Path, card: str
) -> None:
    target = adapter.parent / "merged"
    merge(adapter, target, base_name=str(base.path))
    (target / CARD_FILE).write_text(card)
    merge(adapter, target, base_name=str(base.path))
    assert read_card(target)["name"] == "kettle"


def test_fully_trained_weights_are_taken_as_they_are(base: Base, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = load_trainable(base, TrainSettings(method="full"))
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    card = {"base": {"id": base.id, "sha256": base.sha256}}
    save_trained(tmp_path / "adapter", model, trained_state(model), card)
    merged = merge(tmp_path / "adapter", tmp_path / "merged", base_name=str(base.path))
    trained = load_file(tmp_path / "adapter" / FULL_FILE)
    found = load_file(merged / FULL_FILE)
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], trained[name]) for name in found)


Refused = Callable[[str], AdapterError]


def test_an_adapter_for_another_base_is_refused(adapter: Path, refused: Refused) -> None:
    card = read_card(adapter)
    card["base"] = {"id": "other", "sha256": "f" * 64}
    (adapter / CARD_FILE).write_text(json.dumps(card))
    assert "--base" in refused(r"was trained on other \(ffffffffffff\)").hint


def test_an_adapter_of_another_shape_is_refused(
    adapter: Path, base: Base, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    from safetensors.torch import load_file, save_file

    state = load_file(other / FULL_FILE)
    for name in list(state):
        if "gate_proj" in name or "up_proj" in name:
            state[name] = state[name][:96].contiguous()
    save_file(state, other / FULL_FILE)
    found = resolve_base(str(other))
    card = read_card(adapter) | {"base": {"id": found.id, "sha256": found.sha256}}
    (adapter / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(AdapterError, match=r"differ in model\.layers"):
        merge(adapter, tmp_path / "merged", base_name=str(other))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_an_adapter_file_cut_short_is_refused(adapter: Path, refused: Refused, kept: float) -> None:
    data = (adapter / ADAPTER_FILE).read_bytes()
    (adapter / ADAPTER_FILE).write_bytes(data[: int(kept * len(data))])
    refused("is damaged")


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"lora_alpha": 8}',
        '{"lora_alpha": 8, "r": 0}',
        '{"lora_alpha": "x", "r": 4}',
        '{"lora_alpha": 1e400, "r": 4}',
        '{"lora_alpha": 8, "r": 4, "use_dora": true}',
        '{"lora_alpha": 8, "r": 4, "rank_pattern": {"q_proj": 2}}',
    ],
)
def test_a_damaged_or_unknown_configuration_is_refused(
    adapter: Path, refused: Refused, config: str
) -> None:
    (adapter / CONFIG).write_text(config)
    refused(CONFIG)


def damage(adapter: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(adapter / ADAPTER_FILE)
    change(state)
    save_file(state, adapter / ADAPTER_FILE)


def without_a_half(state: dict[str, Tensor]) -> None:
    del state[next(name for name in state if "lora_B" in name)]


def with_something_else(state: dict[str, Tensor]) -> None:
    state["base_model.model.lm_head.weight"] = torch.zeros(2)


def with_halves_of_different_rank(state: dict[str, Tensor]) -> None:
    name = next(name for name in state if "lora_A" in name)
    state[name] = state[name][:2].contiguous()


def with_a_half_that_is_no_matrix(state: dict[str, Tensor]) -> None:
    state[next(name for name in state if "lora_A" in name)] = torch.zeros(4)


def with_a_hole(state: dict[str, Tensor]) -> None:
    next(iter(state.values()))[0, 0] = float("nan")


def with_nothing(state: dict[str, Tensor]) -> None:
    state.clear()


@pytest.mark.parametrize(
    "change",
    [
        without_a_half,
        with_something_else,
        with_halves_of_different_rank,
        with_a_half_that_is_no_matrix,
        with_a_hole,
        with_nothing,
    ],
)
def test_an_adapter_with_odd_weights_is_refused(
    adapter: Path, refused: Refused, change: Callable[[dict[str, Tensor]], None]
) -> None:
    damage(adapter, change)
    refused("is damaged")


def test_a_folder_without_weights_is_refused(adapter: Path, refused: Refused) -> None:
    (adapter / ADAPTER_FILE).unlink()
    refused(f"holds no {ADAPTER_FILE}")


def test_a_folder_without_a_card_is_refused(adapter: Path, refused: Refused) -> None:
    (adapter / CARD_FILE).unlink()
    refused(CARD_FILE)


def test_the_verb_says_where_the_model_lies_and_what_comes_next(
    base: Base, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = adapter.parent
    assert main(["merge", str(work), "--base", str(base.path), "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["merged"] == str(work / "merged")
    assert len(document["sha256"]) == 64
    assert f"next: subterra quantize {work}" in shown.err


def test_the_verb_refuses_a_missing_adapter_in_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(tmp_path)]) == AdapterError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 2
