r"""ChatML: the one chat format of base, training, scoring and runtime, token by token.

Goes in: a `tokenizer.json` (byte-level BPE) and texts. Comes out: token ids and texts.
Every engine is fed the ids made here, so no engine's own tokenizer is ever used. Does not know
procedures, recipes or engines.

A turn is `<|im_start|>role\ntext<|im_end|>\n`. Header, text and end are tokenised apart, so the ids
of a turn never depend on its neighbours, and a text that contains `<|im_end|>` stays text.

    >>> tokenizer = ChatTokenizer(Path("merged/tokenizer.json"))
    >>> tokens = tokenizer.system_turn("You are Zoe.") + tokenizer.assistant_prefix()
"""

import codecs
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from subterra.runtime.errors import ModelError

Role = Literal["system", "user", "assistant"]

START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What an agent's prompt starts with and how its turns are delimited."""

    system: str = ""
    start_of_turn: str = START_OF_TURN
    end_of_turn: str = END_OF_TURN


class ChatTokenizer:
    """Tokenize ChatML turns exactly as in training."""

    def __init__(self, path: Path, chat: ChatFormat | None = None) -> None:
        """Load `path`, a `tokenizer.json` or the folder that holds it.

        Raises:
            ModelError: the file is missing, damaged, not byte-level BPE, or lacks a delimiter.
        """
        self.path = path / "tokenizer.json" if path.is_dir() else path
        self.chat = chat or ChatFormat()
        document = _read_document(self.path)
        self._specials = _mark_added_tokens_special(document, self.path)
        self._tokenizer = _load(document, self.path)
        self._tokenizer.encode_special_tokens = True  # a special token's text is ordinary text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.start_of_turn_id = self._delimiter(self.chat.start_of_turn)
        self.end_of_turn_id = self._delimiter(self.chat.end_of_turn)
        self.vocab_size = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self._bytes = _token_bytes(self._tokenizer, self._specials)
        first = [data[0] if data else -1 for data in self._bytes]
        self.first_bytes: NDArray[np.int16] = np.array(first, np.int16)
        self._newline = self.encode_text("\n")

    def encode_text(self, text: str) -> list[int]:
        """Tokenize plain text; special tokens written in it are not parsed."""
        clean = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates from a terminal
        return list(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def encode_turn(self, role: Role, text: str) -> list[int]:
        """Tokenize one whole turn, its end and newline included."""
        return [*self.turn_start(role), *self.encode_text(text), *self.turn_end()]

    def turn_start(self, role: Role) -> list[int]:
        r"""Tokens of `<|im_start|>role\n`."""
        return [self.start_of_turn_id, *self.encode_text(f"{role}\n")]

    def turn_end(self) -> list[int]:
        r"""Tokens of `<|im_end|>\n`."""
        return [self.end_of_turn_id, *self._newline]

    def assistant_prefix(self) -> list[int]:
        """Tokens after which the agent's reply starts."""
        return self.turn_start("assistant")

    def system_turn(self, system: str | None = None) -> list[int]:
        """Tokens of the pinned first turn; by default with the chat format's own system line."""
        return self.encode_turn("system", self.chat.system if system is None else system)

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token; empty for a special or unknown token."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of the tokens without special tokens; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def stream_decoder(self) -> "StreamDecoder":
        """Make a decoder for one reply."""
        return StreamDecoder(self)

    def _delimiter(self, text: str) -> int:
        token = self._specials.get(text)
        if token is None:
            raise ModelError(
                f"{self.path} has no token {text}, so its model was not made for ChatML",
                hint="use a base model with the chat format chatml",
            )
        return token


class StreamDecoder:
    """Turn tokens into text as they come; a character is held until all its bytes are there."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Text completed by this token (often one word, sometimes empty)."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    @property
    def holds_bytes(self) -> bool:
        """Tell whether a character is still incomplete."""
        return bool(self._decoder.getstate()[0])

    def flush(self) -> str:
        """Text of bytes still held, as U+FFFD; call once at the end."""
        return self._decoder.decode(b"", final=True)


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"cannot read the tokenizer {path}: {error.strerror}",
            hint="give the folder that holds tokenizer.json",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(path, "not a JSON object")
    decoder = document.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise ModelError(
            f"{path} is not a byte-level BPE tokenizer",
            hint="use a base model with a byte-level tokenizer (SmolLM2, Qwen, ...)",
        )
    return document


def _mark_added_tokens_special(document: dict[str, Any], path: Path) -> dict[str, int]:
    """Make every added token special, so that `encode_special_tokens` keeps all out of texts."""
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise _damaged(path, "added_tokens is not a list")
    specials: dict[str, int] = {}
    for entry in added:
        match entry:
            case {"content": str(content), "id": int(token)}:
                entry["special"] = True
                specials[content] = token
            case _:
                raise _damaged(path, "an added token has no content or id")
    return specials


def _load(document: dict[str, Any], path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(document))
    except BaseException as error:
        # the library raises plain Exception, and a panic (not an Exception) on some damage
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path} is damaged: {reason}", hint="make or copy the model folder again")


def _token_bytes(tokenizer: Tokenizer, specials: dict[str, int]) -> list[bytes]:
    """Bytes of each token id; byte-level BPE writes each byte as one printable character."""
    alphabet = _byte_of_character()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for content, token in vocabulary.items():
        if content not in specials:
            table[token] = b"".join(
                alphabet.get(character, character.encode()) for character in content
            )
    return table


def _byte_of_character() -> dict[str, bytes]:
    """Invert the byte-to-character table of GPT-2 (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): bytes([byte]) for byte in printable}
    return table | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}
