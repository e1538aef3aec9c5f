"""Loading a base for training, and adapter folders that peft reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from subterra.compile.card import ADAPTER_FILE, CARD_FILE
from subterra.compile.model import (
    load_trainable,
    load_trained,
    save_trained,
    trained_state,
    write_tensors,
)
from subterra.compile.settings import TrainSettings
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.errors import AdapterError, BaseModelError, ResourceError

CARD = {"base": {"id": "tiny", "sha256": "0"}, "title": "Küche"}
SAVE = """
import sys
from pathlib import Path
from subterra.compile.model import load_trainable, save_trained, trained_state
from subterra.compile.settings import TrainSettings
from subterra.models.resolve import resolve_base
model = load_trainable(resolve_base(sys.argv[1]), TrainSettings(rank=2))
card = {"base": {"id": "tiny", "sha256": "0"}, "title": "Küche"}
save_trained(Path(sys.argv[2]), model, trained_state(model), card)
"""


@pytest.fixture
def base(tiny_checkpoint: Path) -> Base:
    return resolve_base(str(tiny_checkpoint))


def test_lora_trains_the_adapter_in_fp32_on_a_frozen_bf16_base(base: Base) -> None:
    model = load_trainable(base, TrainSettings(rank=4))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert len(trained) == 2 * 7 * 2  # layers, linear maps, halves
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_full_training_trains_everything_in_fp32(base: Base) -> None:
    model = load_trainable(base, TrainSettings(method="full"))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_loading_sets_the_random_state_by_the_seed(base: Base, method: str) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.rand(3)
        load_trainable(
            base, TrainSettings(method="lora" if method == "lora" else "full", seed=seed)
        )
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_checkpoint_that_transformers_refuses_is_a_base_model_error(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
    with pytest.raises(BaseModelError, match="cannot load the base model"):
        load_trainable(Base("odd", tmp_path, "0"), TrainSettings())


def test_an_adapter_folder_is_read_by_peft(base: Base, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = load_trainable(base, TrainSettings(rank=4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    save_trained(tmp_path / "adapter", model, trained_state(model), CARD)
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    ids = torch.randint(3, 200, (1, 20))
    with torch.no_grad():
        found, wanted = loaded(input_ids=ids).logits, model.float()(input_ids=ids).logits
    assert (found - wanted).norm() / wanted.norm() < 0.03  # the adapter is kept in bf16


def test_what_the_adapter_is_attached_to_is_written_in_order(base: Base, tmp_path: Path) -> None:
    model = load_trainable(base, TrainSettings(rank=2))
    save_trained(tmp_path / "adapter", model, trained_state(model), CARD)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == "tiny"


@pytest.mark.slow
def test_another_process_writes_the_same_adapter_folder(base: Base, tmp_path: Path) -> None:
    model = load_trainable(base, TrainSettings(rank=2))
    save_trained(tmp_path / "here", model, trained_state(model), CARD)
    command = [sys.executable, "-c", SAVE, str(base.path), str(tmp_path / "there")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {ADAPTER_FILE, CARD_FILE, "adapter_config.json"} <= files.keys()
    for name, content in files.items():
        assert (tmp_path / "there" / name).read_bytes() == content, name


def test_a_fresh_adapter_takes_up_the_weights_of_another(base: Base, tmp_path: Path) -> None:
    first = load_trainable(base, TrainSettings(rank=4))
    for name, parameter in first.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    save_trained(tmp_path / "adapter", first, trained_state(first), CARD)
    second = load_trainable(base, TrainSettings(rank=4, seed=9))
    load_trained(second, tmp_path / "adapter")
    before, after = trained_state(first), trained_state(second)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    trained = {p.dtype for p in second.parameters() if p.requires_grad}
    assert trained == {torch.float32}


@pytest.mark.parametrize(
    "settings", [TrainSettings(rank=8), TrainSettings(method="full")], ids=["rank", "method"]
)
def test_an_adapter_of_another_kind_is_not_taken_up(
    base: Base, tmp_path: Path, settings: TrainSettings
) -> None:
    model = load_trainable(base, TrainSettings(rank=4))
    save_trained(tmp_path / "adapter", model, trained_state(model), CARD)
    with pytest.raises(AdapterError) as caught:
        load_trained(load_trainable(base, settings), tmp_path / "adapter")
    assert caught.value.hint


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_missing_or_damaged_adapter_is_not_taken_up(
    base: Base, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / ADAPTER_FILE).write_bytes(content)
    with pytest.raises(AdapterError):
        load_trained(load_trainable(base, TrainSettings(rank=4)), tmp_path)


def test_a_card_keeps_letters_beyond_ascii(base: Base, tmp_path: Path) -> None:
    model = load_trainable(base, TrainSettings(method="full"))
    save_trained(tmp_path / "all", model, trained_state(model), CARD)
    assert "Küche" in (tmp_path / "all" / CARD_FILE).read_text(encoding="utf-8")


def test_a_tied_output_layer_is_not_written_twice(base: Base) -> None:
    state = trained_state(load_trainable(base, TrainSettings(method="full")))
    assert "lm_head.weight" not in state
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_weights_that_cannot_be_written_are_a_resource_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot write"):
        write_tensors(tmp_path / "no" / "folder.safetensors", {"a": torch.zeros(1)})
