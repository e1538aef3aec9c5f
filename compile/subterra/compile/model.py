"""Load a base for training and write or read its adapter.

Goes in: a checkpoint folder. Comes out: a peft model in bf16 with an fp32 adapter, and adapter
folders that peft, transformers and `subterra merge` read. Does not know data or losses.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subterra.compile.settings import TrainSettings
from subterra.models.resolve import Base
from subterra.runtime.errors import AdapterError, BaseModelError
from subterra.runtime.files import replacing_folder

ADAPTER_FILE = "adapter_model.safetensors"
FULL_FILE = "model.safetensors"
CARD_FILE = "subterra.json"


def load_trainable(base: Base, settings: TrainSettings) -> Any:
    """Load the base and make what the method trains trainable.

    Raises:
        BaseModelError: transformers cannot load the checkpoint.
    """
    import peft
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if settings.method == "lora" else torch.float32
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base.path, dtype=dtype, local_files_only=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"cannot load the base model {base.path}: {error}",
            hint="subterra compile --base smollm2-135m-instruct",
        ) from error
    if settings.method == "full":
        return model
    torch.manual_seed(settings.seed)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def trained_state(model: Any) -> dict[str, Tensor]:
    """Copy what was trained: the adapter (peft's names, bf16), or all weights (fp16)."""
    if hasattr(model, "peft_config"):
        import peft

        state = peft.get_peft_model_state_dict(model)
        return {name: value.detach().to(torch.bfloat16).clone() for name, value in state.items()}
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return {name: value.detach().to(torch.float16).clone() for name, value in state.items()}


def save_trained(folder: Path, model: Any, state: dict[str, Tensor], card: object) -> None:
    """Write an adapter folder (or, after full fine-tuning, a weight folder) in one rename."""
    from safetensors.torch import save_file

    with replacing_folder(folder) as temporary:
        contiguous = {name: value.contiguous() for name, value in state.items()}
        if hasattr(model, "peft_config"):
            save_file(contiguous, temporary / ADAPTER_FILE, metadata={"format": "pt"})
            config = model.peft_config["default"]
            config.base_model_name_or_path = base_id(card)
            config.save_pretrained(temporary)
        else:
            save_file(contiguous, temporary / FULL_FILE, metadata={"format": "pt"})
        (temporary / CARD_FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def base_id(card: object) -> str:
    """Name the base in a card, for peft's own configuration (no path of this machine)."""
    return str(card["base"]["id"]) if isinstance(card, dict) else ""


def read_card(folder: Path) -> dict[str, Any]:
    """Read what an adapter or merged folder says of itself.

    Raises:
        AdapterError: the folder or its card is missing or damaged.
    """
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{path} is missing or damaged: {error}", hint="subterra compile examples/zoom_support"
        ) from None
    if not isinstance(card, dict) or "base" not in card:
        raise AdapterError(
            f"{path} names no base model", hint="subterra compile writes such a card"
        )
    return card
