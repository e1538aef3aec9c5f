"""Parallel conversations in one llama.cpp context, decoded together.

Goes in: prompts for numbered slots. Comes out: replies as they finish. One step decodes one token
of every slot that writes and, in the same batch, reads the prompts of slots that just got one, so
no slot waits for another. Does not know what the conversations are about.

    >>> slots = engine.slots(16)
    >>> slots.submit(0, prompt, max_tokens=64, stop=[2])
    >>> while not (finished := slots.step()): ...
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.engine import Choose, check_prompt, common_prefix
from subterra.runtime.errors import EngineError
from subterra.runtime.llama_native import Batch, NativeContext, NativeModel

BATCH_TOKENS = 256
"""Tokens in one step; the writers come first, the readers share the rest."""

MAX_SLOTS = 64
"""Sequences llama.cpp is asked for in one context; it holds at most 256."""


@dataclass(slots=True)
class _Slot:
    cached: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)
    limit: int = 0
    stop: frozenset[int] = frozenset()
    choose: Choose | None = None

    @property
    def busy(self) -> bool:
        return bool(self.pending)


class LlamaSlots:
    """A context with one sequence for each slot."""

    def __init__(
        self, model: NativeModel, count: int, *, context_tokens: int, threads: int
    ) -> None:
        """Reserve `count` caches.

        Raises:
            EngineError: the count is not in 1..64, or there is no memory for the caches.
        """
        if not 1 <= count <= MAX_SLOTS:
            raise EngineError(
                f"{count} slots were asked for", hint=f"ask for 1 to {MAX_SLOTS} slots"
            )
        self.count = count
        self.context_tokens = context_tokens
        self._vocab_size = model.vocab_size
        self._slots = [_Slot() for _ in range(count)]
        self._context = NativeContext(
            model,
            context_tokens=context_tokens,
            threads=threads,
            sequences=count,
            batch_tokens=BATCH_TOKENS,
        )

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        """Ask for a reply; see `engine.Slots.submit`."""
        state = self._free_slot(slot)
        check_prompt(
            tokens, vocab_size=self._vocab_size, context_tokens=self.context_tokens, room=1
        )
        if max_tokens < 1:
            raise EngineError(
                f"a reply of {max_tokens} tokens was asked for", hint="ask for at least 1"
            )
        keep = min(common_prefix(state.cached, tokens), len(tokens) - 1)
        if keep < len(state.cached) and not self._context.keep(slot, keep):
            keep = 0
        del state.cached[keep:]
        state.pending = list(tokens[keep:])
        state.reply = []
        state.limit = min(max_tokens, self.context_tokens - len(tokens))
        state.stop = frozenset(stop)
        state.choose = choose

    def step(self) -> list[tuple[int, list[int]]]:
        """Decode one batch; replies that finished. An empty list when no slot is busy."""
        batch, writers = self._pack()
        if not len(batch):
            return []
        try:
            rows = self._context.decode(batch)
        except EngineError:
            self._reset()
            raise
        if rows is None:
            return []
        return self._advance(writers, rows)

    def close(self) -> None:
        """Free the caches."""
        self._context.close()

    def _pack(self) -> tuple[Batch, list[int]]:
        """Fill a batch; slots whose last pending token is in it will get a logit row, in order."""
        batch, writers = Batch(), []
        busy = [index for index, slot in enumerate(self._slots) if slot.busy]
        for index in sorted(busy, key=lambda i: len(self._slots[i].pending) > 1):
            slot = self._slots[index]
            chunk = slot.pending[: BATCH_TOKENS - len(batch)]
            done = len(chunk) == len(slot.pending)
            start = len(slot.cached)
            for offset, token in enumerate(chunk):
                output = done and offset == len(chunk) - 1
                batch.add(token, start + offset, index, output=output)
            slot.cached += chunk
            del slot.pending[: len(chunk)]
            if done and chunk:
                writers.append(index)
        return batch, writers

    def _advance(
        self, writers: list[int], rows: NDArray[np.float32]
    ) -> list[tuple[int, list[int]]]:
        finished = []
        likeliest = rows.argmax(axis=1).tolist()
        for index, row, token in zip(writers, rows, likeliest, strict=True):
            slot = self._slots[index]
            if slot.choose:
                token = slot.choose(row)
            if token not in slot.stop:
                slot.reply.append(token)
                if len(slot.reply) < slot.limit:
                    slot.pending = [token]
                    continue
            finished.append((index, slot.reply))
            slot.reply = []
        return finished

    def _free_slot(self, slot: int) -> _Slot:
        if not 0 <= slot < self.count:
            raise EngineError(f"there is no slot {slot}", hint=f"slots are 0..{self.count - 1}")
        if self._slots[slot].busy:
            raise EngineError(f"slot {slot} is busy", hint="wait until step() returns its reply")
        return self._slots[slot]

    def _reset(self) -> None:
        """Forget everything after a failed decode: what the caches hold is unknown."""
        for index in range(self.count):
            self._slots[index] = _Slot()
            self._context.keep(index, 0)
