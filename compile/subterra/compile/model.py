"""Load a base for training and write its adapter.

Goes in: a checkpoint folder. Comes out: a peft model in bf16 with an fp32 adapter, and adapter
folders that peft, transformers and `subterra merge` read. Does not know data or losses.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subterra.compile.card import ADAPTER_FILE, CARD_FILE, FULL_FILE
from subterra.compile.settings import TrainSettings
from subterra.models.resolve import Base
from subterra.runtime.errors import AdapterError, BaseModelError, ResourceError
from subterra.runtime.files import replacing_folder, write_json


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
    torch.manual_seed(settings.seed)
    if settings.method == "full":
        return model
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

        # "auto", the default, may ask the hub for the base's configuration
        state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        return {name: value.detach().to(torch.bfloat16).clone() for name, value in state.items()}
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return {name: value.detach().to(torch.float16).clone() for name, value in state.items()}


def load_trained(model: Any, folder: Path) -> None:
    """Fill a fresh adapter with the weights of an adapter folder.

    Raises:
        AdapterError: the folder holds no adapter of this shape.
    """
    import peft
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not hasattr(model, "peft_config"):
        raise AdapterError(
            f"full training cannot go on from the adapter {folder}", hint="--method lora"
        )
    try:
        state = load_file(folder / ADAPTER_FILE)
        result = peft.set_peft_model_state_dict(model, state)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise AdapterError(
            f"cannot go on from {folder}: {error}", hint="give the same base, method and --rank"
        ) from None
    if not state or result.unexpected_keys:
        raise AdapterError(
            f"{folder} is not an adapter of this model", hint="give the same base and method"
        )


def save_trained(folder: Path, model: Any, state: dict[str, Tensor], card: object) -> None:
    """Write an adapter folder (or, after full fine-tuning, a weight folder) in one rename.

    Raises:
        ResourceError: the disk is full or the folder read-only.
    """
    with replacing_folder(folder) as temporary:
        if hasattr(model, "peft_config"):
            write_tensors(temporary / ADAPTER_FILE, state)
            config = model.peft_config["default"]
            config.base_model_name_or_path = base_id(card)
            config.target_modules = sorted(config.target_modules)  # a set is written in any order
            config.save_pretrained(temporary)
        else:
            write_tensors(temporary / FULL_FILE, state)
        write_json(temporary / CARD_FILE, card)


def write_tensors(path: Path, state: dict[str, Tensor]) -> None:
    """Write a safetensors file that transformers and peft read.

    Raises:
        ResourceError: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: value.contiguous() for name, value in state.items()}
    try:
        save_file(contiguous, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes for the owner alone
    except SafetensorError as error:
        raise ResourceError(f"cannot write {path}: {error}", hint="free some disk space") from error


def base_id(card: object) -> str:
    """Name the base in a card, for peft's own configuration (no path of this machine)."""
    return str(card["base"]["id"]) if isinstance(card, dict) else ""
