"""The verb `merge`: an adapter becomes one with its base.

Goes in: an adapter folder. Comes out: a Hugging Face checkpoint (fp16 safetensors) with the base's
tokenizer and a card. The delta is added in fp32, so that nothing but fp16 rounding is lost.

    $ subterra merge build/zoom_support
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subterra.compile.card import ADAPTER_FILE, CARD_FILE, FULL_FILE, read_card
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.errors import AdapterError
from subterra.runtime.files import replacing_folder, sha256_file, write_json
from subterra.runtime.temporary import sweep

if TYPE_CHECKING:
    from torch import Tensor

COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TOPS = ("special_tokens_map.json", "chat_template.jinja")
CONFIG_FILE = "adapter_config.json"
PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
"""What peft adds to the name of a base's weight."""
TIED_HEAD = "lm_head.weight"
"""May be missing in fully trained weights: the embedding serves as the output layer."""
UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
"""Options of peft under which the delta is something else."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("work", type=Path, help="work folder (build/NAME) with adapter/")
    parser.add_argument("--adapter", type=Path, help="adapter folder (default: WORK/adapter)")
    parser.add_argument("--base", help="base model, if it does not lie where the adapter says")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Merge and say where."""
    adapter = args.adapter or args.work / "adapter"
    merged = merge(adapter, args.work / "merged", base_name=args.base)
    if args.json:
        print(json.dumps({"merged": str(merged), "sha256": sha256_file(merged / FULL_FILE)}))
    print(f"next: subterra quantize {args.work}", file=sys.stderr)
    return 0


def merge(adapter: Path, target: Path, *, base_name: str | None = None) -> Path:
    """Write `target`, a checkpoint with the adapter's delta added; skip it when it is up to date.

    Raises:
        AdapterError: the adapter is damaged, or was made for another base.
        BaseModelError: the base is out of reach.
        ResourceError: the disk is full or the folder read-only.
    """
    card = read_card(adapter)
    weights = adapter / (ADAPTER_FILE if (adapter / ADAPTER_FILE).exists() else FULL_FILE)
    if not weights.exists():
        raise AdapterError(f"{adapter} holds no {ADAPTER_FILE}", hint="subterra compile PROCEDURE")
    digest = sha256_file(weights)
    if _up_to_date(target, digest):
        sweep(target)
        return target
    base = resolve_base(base_name or str(card["base"]["id"]))
    if base.sha256 != card["base"]["sha256"]:
        raise AdapterError(
            f"{adapter} was trained on {card['base']['id']} ({card['base']['sha256'][:12]}),"
            f" not on {base.id} ({base.sha256[:12]})",
            hint="give the base that it was trained on: --base FOLDER",
        )
    state = _merged_state(base, adapter, weights)
    _write(base, target, state, card | {"adapter_sha256": digest})
    return target


def _up_to_date(target: Path, digest: str) -> bool:
    if not (target / FULL_FILE).exists():
        return False
    try:
        return bool(read_card(target).get("adapter_sha256") == digest)
    except AdapterError:
        return False


def _merged_state(base: Base, adapter: Path, weights: Path) -> dict[str, Tensor]:
    import torch

    trained = _trained(weights)
    state: dict[str, Tensor] = {}
    for shard in sorted(base.path.glob("*.safetensors")):
        state.update(_tensors(shard))
    if weights.name == FULL_FILE:
        merged = trained
        for name in state.keys() - {TIED_HEAD}:
            _check_shape(name, trained, tuple(state[name].shape), adapter, base)
    else:
        merged, scale = state, _scale(adapter)
        for name, down, up in _deltas(adapter, trained):
            _check_shape(name, state, (up.shape[0], down.shape[1]), adapter, base)
            delta = scale * (up.float() @ down.float())
            state[name] = (state[name].float() + delta).to(torch.float16)
    return {name: value.to(torch.float16) for name, value in merged.items()}


def _trained(weights: Path) -> dict[str, Tensor]:
    trained = _tensors(weights)
    for name, value in trained.items():
        if not bool(value.isfinite().all()):
            raise _damaged(weights, f"{name} is not finite")
    return trained


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _scale(adapter: Path) -> float:
    """Read what the delta is multiplied with: alpha / r (arXiv 2106.09685)."""
    path = adapter / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        scale = float(config["lora_alpha"]) / int(config["r"])
        odd = [name for name in UNSUPPORTED if config.get(name)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise _damaged(path, repr(error)) from None
    if odd or not math.isfinite(scale):
        raise _damaged(path, f"{odd[0]} is not supported" if odd else f"a scale of {scale}")
    return scale


def _deltas(adapter: Path, trained: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name of the base's weight, down (r, in), up (out, r))."""
    downs = [name for name in trained if name.endswith(DOWN)]
    ups = [name.removesuffix(DOWN) + UP for name in downs]
    if not downs or {*downs, *ups} != set(trained):
        raise _damaged(adapter / ADAPTER_FILE, "it does not hold pairs of lora_A and lora_B alone")
    for name in downs:
        stem = name.removesuffix(DOWN)
        down, up = trained[name], trained[stem + UP]
        if not (down.dim() == up.dim() == 2 and up.shape[1] == down.shape[0]):
            raise _damaged(adapter / ADAPTER_FILE, f"{stem} has halves of different rank")
        yield stem.removeprefix(PREFIX) + ".weight", down, up


def _check_shape(
    name: str, state: Mapping[str, Tensor], shape: tuple[int, ...], adapter: Path, base: Base
) -> None:
    if name not in state or tuple(state[name].shape) != shape:
        raise AdapterError(
            f"{adapter} and {base.id} differ in {name}, {shape}",
            hint="give the base that it was trained on: --base FOLDER",
        )


def _damaged(path: Path, reason: str) -> AdapterError:
    return AdapterError(f"{path} is damaged: {reason}", hint="copy or train the adapter again")


def _write(base: Base, target: Path, state: dict[str, Tensor], card: dict[str, Any]) -> None:
    from subterra.compile.model import write_tensors

    with replacing_folder(target) as temporary:
        write_tensors(temporary / FULL_FILE, state)
        for name in (*COPIED, *TOPS):
            if (base.path / name).exists():
                shutil.copyfile(base.path / name, temporary / name)
        write_json(temporary / CARD_FILE, card)
