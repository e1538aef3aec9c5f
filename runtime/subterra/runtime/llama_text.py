"""A GGUF's own tokenizer and chat template, for models that are no agents of ours.

Goes in: the path of any instruct GGUF. Comes out: token ids of a prompt in that model's own chat
format, and the text of its reply. Agents never use this: their ids come from `chatml`. A special
token that is written in a text is parsed as one. Does not load weights.

    >>> chat = GgufChat(Path("instruct.gguf"))
    >>> tokens = chat.prompt("You are brief.", "Hello")
"""

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subterra.runtime.errors import EngineError
from subterra.runtime.llama_native import NativeModel, native

PIECE_BYTES = 256
"""Room for one token's text; a longer one says how long it is."""
TEMPLATE_HINT = (
    "give an instruct GGUF with a common chat template (ChatML, Llama 3, Gemma, Mistral, Phi, ...),"
    " or serve it and use --teacher endpoint"
)


class GgufChat:
    """Turns one exchange into tokens, and tokens into text."""

    def __init__(self, path: Path) -> None:
        """Read vocabulary and template.

        Raises:
            EngineError: the file is refused, or has no chat template that llama.cpp knows.
        """
        self.path = path
        self._model = NativeModel(path, vocabulary_only=True)
        self._vocabulary: Any = native.llama_model_get_vocab(self._model.handle)
        self._template = native.llama_model_chat_template(self._model.handle, None)
        if not self._template:
            self.close()
            raise EngineError(
                f"{path} has no chat template, so it is no instruct model", hint=TEMPLATE_HINT
            )
        self.stop = frozenset(
            token
            for token in range(self._model.vocab_size)
            if native.llama_vocab_is_eog(self._vocabulary, token)
        )

    def prompt(self, system: str, user: str, opening: str = "") -> list[int]:
        """Tokenize one exchange; the reply starts with `opening`.

        Raises:
            EngineError: llama.cpp does not know the chat template.
        """
        return self._encode(self._rendered(system, user) + opening.encode())

    def text(self, tokens: Iterable[int]) -> str:
        """Text of tokens, without special ones; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self._piece, tokens)).decode("utf-8", "replace")

    def close(self) -> None:
        """Free the vocabulary."""
        self._model.close()

    def _rendered(self, system: str, user: str) -> bytes:
        turns = [(b"system", system), (b"user", user)]
        messages = (native.llama_chat_message * len(turns))(
            *((role, text.replace("\0", " ").encode("utf-8", "replace")) for role, text in turns)
        )
        room = 0
        while True:
            buffer = ctypes.create_string_buffer(max(room, 1))
            size = native.llama_chat_apply_template(
                self._template, messages, len(turns), True, buffer, room
            )
            if size < 0:
                raise EngineError(
                    f"llama.cpp does not know the chat template of {self.path}", hint=TEMPLATE_HINT
                )
            if size <= room:
                return buffer.raw[:size]
            room = size

    def _encode(self, data: bytes) -> list[int]:
        room = len(data) + 2  # the most tokens there can be: one a byte, begin and end
        tokens = (ctypes.c_int32 * room)()
        count = native.llama_tokenize(self._vocabulary, data, len(data), tokens, room, True, True)
        if count < 0:
            raise EngineError(f"{self.path} cannot tokenize the prompt", hint=TEMPLATE_HINT)
        return list(tokens[:count])

    def _piece(self, token: int) -> bytes:
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = native.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count
