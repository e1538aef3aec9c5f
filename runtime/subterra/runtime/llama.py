"""The llama.cpp engine: a GGUF file continues token sequences on the CPU.

Goes in: a GGUF path and token ids. Comes out: greedy replies, logits, or parallel slots.
The KV cache keeps the last conversation, so a next turn reads only its new tokens. Flash attention
is on for one conversation and off for parallel slots, where it is slower. Batched and single
decodes round differently, so a near tie between two tokens may fall either way.

    >>> engine = LlamaEngine(Path("model-Q8_0.gguf"))
    >>> reply = list(engine.generate(prompt, max_tokens=64, stop=[2]))
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.engine import Choose, check_prompt, common_prefix
from subterra.runtime.errors import EngineError
from subterra.runtime.llama_native import Batch, NativeContext, NativeModel
from subterra.runtime.llama_slots import LlamaSlots
from subterra.runtime.threads import usable_threads

BATCH_TOKENS = 512
"""Prompt tokens read in one decode; cancelling works inside it."""

LOGIT_ROWS = 64
"""Rows of logits held at a time: 12 MiB at a vocabulary of 49,152."""

SEQUENCE = 0


class LlamaEngine:
    """A GGUF model with one cached conversation."""

    name = "llama.cpp"

    def __init__(
        self, path: Path, *, context_tokens: int = 2048, threads: int | None = None
    ) -> None:
        """Load the file and reserve the cache.

        Raises:
            EngineError: llama.cpp refuses the file or the context.
        """
        self.context_tokens = context_tokens
        self._threads = threads or usable_threads()
        self._model = NativeModel(path)
        self.vocab_size = self._model.vocab_size
        try:
            self._context = NativeContext(
                self._model,
                context_tokens=context_tokens,
                threads=self._threads,
                batch_tokens=min(BATCH_TOKENS, context_tokens),
                outputs=LOGIT_ROWS,
            )
        except EngineError:
            self._model.close()
            raise
        self._cached: list[int] = []
        self._reply_number = 0
        self._slots: list[LlamaSlots] = []

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        """Continue `tokens`; see `engine.Engine.generate`."""
        self._check(tokens, room=1)
        self._reply_number += 1
        limit = min(max_tokens, self.context_tokens - len(tokens))
        return self._reply(list(tokens), limit, frozenset(stop), cancel or _never, choose)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, V) after each token, read without the cache."""
        self._check(tokens)
        self._reply_number += 1
        self._forget()
        rows = [self._read(tokens[i : i + LOGIT_ROWS], every=True) for i in _starts(tokens)]
        return np.concatenate([row for row in rows if row is not None])

    def slots(self, count: int) -> LlamaSlots:
        """Open `count` parallel conversations; each reserves a cache of the whole context."""
        self._check_open()
        opened = LlamaSlots(
            self._model, count, context_tokens=self.context_tokens, threads=self._threads
        )
        self._slots.append(opened)
        return opened

    def close(self) -> None:
        """Free cache and weights; a reply still running ends with EngineError."""
        for slots in self._slots:
            slots.close()
        self._context.close()
        self._model.close()

    def _reply(
        self,
        tokens: list[int],
        limit: int,
        stop: frozenset[int],
        cancel: Callable[[], bool],
        choose: Choose | None,
    ) -> Iterator[int]:
        number = self._reply_number
        row = self._prefill(tokens, cancel)
        for left in range(limit, 0, -1):
            if row is None or cancel():
                return
            token = choose(row[-1]) if choose else int(row[-1].argmax())
            if token in stop:
                return
            yield token
            self._check_open()
            if number != self._reply_number:
                raise EngineError(
                    "the engine was given other work during this reply",
                    hint="finish or close one reply before starting the next",
                )
            row = self._read([token]) if left > 1 else None

    def _prefill(self, tokens: list[int], cancel: Callable[[], bool]) -> NDArray[np.float32] | None:
        """Read what the cache lacks; logits (1, V) of the last token, None when cancelled."""
        keep = min(common_prefix(self._cached, tokens), len(tokens) - 1)
        if keep < len(self._cached) and not self._context.keep(SEQUENCE, keep):
            keep = 0
        del self._cached[keep:]
        self._context.abort = cancel
        row = None
        try:
            step = self._context.batch_tokens
            for start in range(keep, len(tokens), step):
                row = self._read(tokens[start : start + step])
                if row is None:
                    break
        finally:
            self._context.abort = None
        return row

    def _read(self, tokens: Sequence[int], *, every: bool = False) -> NDArray[np.float32] | None:
        """Decode one chunk behind the cache; logits of its last token or of every one."""
        batch, start = Batch(), len(self._cached)
        for index, token in enumerate(tokens):
            last = index == len(tokens) - 1
            batch.add(token, start + index, SEQUENCE, output=every or last)
        try:
            rows = self._context.decode(batch)
        except EngineError:
            self._cached.clear()
            raise
        if rows is None:
            self._context.keep(SEQUENCE, start)
            return None
        self._cached.extend(tokens)
        return rows.copy() if every else rows

    def _forget(self) -> None:
        self._context.keep(SEQUENCE, 0)
        self._cached.clear()

    def _check(self, tokens: Sequence[int], *, room: int = 0) -> None:
        self._check_open()
        check_prompt(
            tokens, vocab_size=self.vocab_size, context_tokens=self.context_tokens, room=room
        )

    def _check_open(self) -> None:
        if self._model.handle is None:
            raise EngineError("the engine is closed", hint="open it again")


def _starts(tokens: Sequence[int]) -> range:
    return range(0, len(tokens), LOGIT_ROWS)


def _never() -> bool:
    return False
