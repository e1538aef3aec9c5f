"""Turn a checkpoint's `tokenizer.json` into the tokenizer keys of a GGUF.

Goes in: a folder with `tokenizer.json` and `config.json`. Comes out: a `Vocabulary`: texts, kinds,
merges, pre-tokenizer name, special ids. Only byte-level BPE whose pre-tokenizer llama.cpp splits in
the same way is accepted: any other would silently become another tokenization.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra.runtime.errors import ExportError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Token kinds of GGUF (`tokenizer.ggml.token_type`)."""

PRE_TOKENIZERS = {
    ("digits", "bytes"): "smollm",
    ("digits", "bytes", "removed"): "smollm",
    ("bytes",): "gpt-2",
}
"""Steps of a pre-tokenizer -> the name under which llama.cpp knows them."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What llama.cpp needs to tokenize as the checkpoint does."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    pre: str
    template: str
    """Jinja chat template, or nothing."""


def read_vocabulary(folder: Path, vocab_size: int) -> Vocabulary:
    """Read the tokenizer of a checkpoint, with unused rows named `[PADn]`.

    Raises:
        ExportError: no byte-level BPE, an unknown pre-tokenizer, or more tokens than rows.
    """
    document = read_json(folder / "tokenizer.json")
    model = document.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unsupported(folder, f"a {model.get('type', 'nameless')} model")
    added = document.get("added_tokens") or []
    texts = {int(index): text for text, index in model["vocab"].items()}
    texts.update({int(token["id"]): token["content"] for token in added})
    if max(texts) >= vocab_size:
        raise ExportError(
            f"{folder}: the tokenizer has ids up to {max(texts)}, the model {vocab_size} rows",
            hint="save model and tokenizer together, after resize_token_embeddings",
        )
    kinds = {int(t["id"]): CONTROL if t["special"] else USER_DEFINED for t in added}
    return Vocabulary(
        tokens=[texts.get(i, f"[PAD{i}]") for i in range(vocab_size)],
        kinds=[kinds.get(i, NORMAL if i in texts else UNUSED) for i in range(vocab_size)],
        merges=[m if isinstance(m, str) else " ".join(m) for m in model["merges"]],
        pre=_pre_tokenizer(folder, document),
        template=_template(folder),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ExportError: the file is missing or is not a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot read {path}: {error}", hint="merge the adapter again") from error
    if not isinstance(document, dict):
        raise ExportError(f"{path} is not a JSON object", hint="merge the adapter again")
    return document


def _pre_tokenizer(folder: Path, document: dict[str, Any]) -> str:
    outer = document.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", []) if outer.get("type") == "Sequence" else [outer]
    names = tuple(_step(step) for step in steps)
    if names not in PRE_TOKENIZERS:
        raise _unsupported(folder, f"the pre-tokenizer {' + '.join(names) or 'none'}")
    if document.get("normalizer") is not None:
        raise _unsupported(folder, f"the normalizer {document['normalizer'].get('type')}")
    return PRE_TOKENIZERS[names]


def _step(step: dict[str, Any]) -> str:
    match step:
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return "bytes"
        case {"type": "Split", "behavior": "Removed"}:
            return "removed"
    return str(step.get("type"))


def _template(folder: Path) -> str:
    standalone = folder / "chat_template.jinja"
    if standalone.is_file():
        return standalone.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = read_json(config).get("chat_template") if config.is_file() else None
    return template if isinstance(template, str) else ""


def _unsupported(folder: Path, what: str) -> ExportError:
    known = ", ".join(sorted(set(PRE_TOKENIZERS.values())))
    return ExportError(
        f"{folder / 'tokenizer.json'} uses {what}, which has no tested twin in llama.cpp; "
        f"supported: byte-level BPE split like {known}",
        hint="subterra compile --base smollm2-135m-instruct, or ship the ONNX variants only",
    )
