"""The verb `merge`: an adapter becomes one with its base.

Goes in: an adapter folder. Comes out: a Hugging Face checkpoint (fp16 safetensors) with the base's
tokenizer and a card. The delta is added in fp32, so that nothing but fp16 rounding is lost.

    $ subterra merge build/zoom_support
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from subterra.compile.model import ADAPTER_FILE, CARD_FILE, FULL_FILE, read_card
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.errors import AdapterError
from subterra.runtime.files import replacing_folder, sha256_file

COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TOPS = ("special_tokens_map.json", "chat_template.jinja")


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
    return bool(read_card(target).get("adapter_sha256") == digest)


def _merged_state(base: Base, adapter: Path, weights: Path) -> dict[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        trained = load_file(weights)
        if weights.name == FULL_FILE:
            return dict(trained)
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        scale = float(config["lora_alpha"]) / int(config["r"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{weights} or its configuration is damaged: {error}", hint="copy or train it again"
        ) from None
    state: dict[str, Any] = {}
    for shard in sorted(base.path.glob("*.safetensors")):
        state.update(load_file(shard))
    for name in [n for n in trained if n.endswith(".lora_A.weight")]:
        target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        down, up = trained[name].float(), trained[name.replace("lora_A", "lora_B")].float()
        if target not in state or state[target].shape != (up.shape[0], down.shape[1]):
            raise AdapterError(
                f"{adapter} has a delta for {target}, which {base.id} does not have in that shape",
                hint="give the base that it was trained on: --base FOLDER",
            )
        state[target] = (state[target].float() + scale * (up @ down)).to(torch.float16)
    return {n: v.to(torch.float16).contiguous() for n, v in state.items()}


def _write(base: Base, target: Path, state: dict[str, Any], card: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    with replacing_folder(target) as temporary:
        save_file(state, temporary / FULL_FILE, metadata={"format": "pt"})
        for name in (*COPIED, *TOPS):
            if (base.path / name).exists():
                shutil.copyfile(base.path / name, temporary / name)
        (temporary / CARD_FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
