"""One conversation with an agent: turns go in, events stream out, the token budget holds.

Goes in: an engine, the tokenizer, the chat format, the user's messages. Comes out: events
(`StateShown`, `TextDelta`, `Done`). The history is kept as the exact token ids the model read and
wrote, its state lines included, so the engine's cache stays valid from turn to turn. Does not know
the procedure, the screen, or which engine it is.

    >>> session = Session(engine, tokenizer, chat, recipe="traced", slot_names=["issue", "device"])
    >>> for event in session.open(): ...
    >>> for event in session.say("my mic is dead"): ...
"""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from itertools import chain

from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.constrained import ConstrainedChoice, position
from subterra.runtime.engine import Engine
from subterra.runtime.errors import EngineError, UsageError
from subterra.runtime.reply import Done, Event, ReplyReader, StateShown, TextDelta, TurnStats
from subterra.runtime.state_line import StateLine
from subterra.runtime.transition_table import TransitionTable

__all__ = ["Done", "Event", "Session", "StateShown", "TextDelta", "TurnStats"]

RECIPES_WITH_STATE = {"plain": False, "traced": True}
"""Recipe -> whether its replies open with a state line."""

KEEP_SHARE = 0.75
"""Share of the context that is filled at most after turns were dropped.

Dropping empties the engine's cache, so a little more is dropped than needed, but seldom.
"""


class Session:
    """A conversation that never exceeds its context and never loses its system turn."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: ChatTokenizer,
        chat: ChatFormat,
        *,
        recipe: str,
        slot_names: Sequence[str] = (),
        max_reply_tokens: int = 256,
        table: TransitionTable | None = None,
    ) -> None:
        """Prepare an empty conversation; call `open` next.

        With a `table`, no state line can be written that leaves it; recipes without are not held.

        Raises:
            UsageError: the recipe is unknown.
            EngineError: the tokenizer does not fit the model, or the system turn and one reply do
                not fit the context.
        """
        if recipe not in RECIPES_WITH_STATE:
            raise UsageError(
                f"unknown recipe '{recipe}'", hint=f"recipes: {', '.join(RECIPES_WITH_STATE)}"
            )
        if tokenizer.vocab_size > engine.vocab_size:
            raise EngineError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model {engine.vocab_size}",
                hint="use the tokenizer.json of the model's own bundle",
            )
        self._engine = engine
        self._tokenizer = tokenizer
        self._has_state = RECIPES_WITH_STATE[recipe]
        self._slot_names = tuple(slot_names)
        self._max_reply_tokens = max_reply_tokens
        self._table = table if self._has_state else None
        self._line: StateLine | None = None
        """The last legal state line; kept only with a table."""
        self._system = tokenizer.system_turn(chat.system)
        self._prefix = tokenizer.assistant_prefix()
        self._end = tokenizer.turn_end()
        self._exchanges: list[list[int]] = []
        self._cancelled = threading.Event()
        self._running = False
        if self._room() < 0:
            raise EngineError(
                f"the system turn and a reply of {max_reply_tokens} tokens do not fit the context"
                f" of {engine.context_tokens} tokens",
                hint="open the engine with a larger context or allow shorter replies",
            )

    @property
    def tokens(self) -> list[int]:
        """The history as the model reads it."""
        return [*self._system, *chain.from_iterable(self._exchanges)]

    @property
    def message_limit(self) -> int:
        """Longest message in tokens that fits beside the system turn and a reply."""
        return self._room() - len(self._tokenizer.encode_turn("user", ""))

    def open(self) -> Generator[Event, None, None]:
        """Stream the agent's opening turn.

        Raises:
            UsageError: the conversation is already open.
        """
        if self._exchanges:
            raise UsageError("the conversation is already open", hint="reset it first")
        return self._start([])

    def say(self, text: str) -> Generator[Event, None, None]:
        """Stream the agent's reply to a message.

        Raises:
            UsageError: the message is empty or longer than `message_limit`, the conversation is
                not open, or a reply is still running. The conversation is left as it was.
        """
        message = text.strip()
        if not message:
            raise UsageError("the message is empty", hint="type a message")
        if not self._exchanges:
            raise UsageError("the conversation is not open", hint="open it first")
        turn = self._tokenizer.encode_turn("user", message)
        if len(turn) > self._room():
            size = len(turn) - len(self._tokenizer.encode_turn("user", ""))
            raise UsageError(
                f"the message has {size} tokens, at most {self.message_limit} fit",
                hint="send a shorter message",
            )
        return self._start(turn)

    def cancel(self) -> None:
        """End the running reply within 100 ms; callable from any thread."""
        self._cancelled.set()

    def reset(self) -> None:
        """Forget the conversation; `open` starts the next one.

        Raises:
            UsageError: a reply is still running.
        """
        self._check_idle()
        self._exchanges.clear()
        self._line = None

    def _start(self, user_turn: list[int]) -> Generator[Event, None, None]:
        self._check_idle()
        self._cancelled.clear()
        return self._turn(user_turn)

    def _turn(self, user_turn: list[int]) -> Generator[Event, None, None]:
        self._check_idle()
        self._running = True
        reply = ReplyReader(
            self._tokenizer.stream_decoder(), has_state=self._has_state, slot_names=self._slot_names
        )
        try:
            dropped = self._make_room(len(user_turn))
            prompt = [*self.tokens, *user_turn, *self._prefix]
            clock = _Clock()
            replies = self._engine.generate(
                prompt,
                max_tokens=self._max_reply_tokens,
                stop=[self._tokenizer.end_of_turn_id],
                cancel=self._cancelled.is_set,
                choose=self._choice(),
            )
            while (token := clock.next(replies)) is not None:
                yield from clock.seen(self._followed(reply.feed(token)))
            cancelled = self._cancelled.is_set()
            yield from clock.seen(self._followed(reply.finish(cancelled=cancelled)))
        finally:
            self._running = False
            if reply.shown:
                self._exchanges.append([*user_turn, *self._prefix, *reply.tokens, *self._end])
        yield Done(
            TurnStats(
                prompt_tokens=len(prompt),
                new_tokens=clock.tokens,
                ttft_ms=clock.ttft_ms,
                first_text_ms=clock.first_text_ms,
                tokens_per_s=clock.tokens_per_s,
                cancelled=cancelled,
                hit_limit=clock.tokens >= self._max_reply_tokens,
                truncated_turns=dropped,
            )
        )

    def _choice(self) -> ConstrainedChoice | None:
        if self._table is None:
            return None
        cancelled = self._cancelled.is_set
        return ConstrainedChoice(self._table, self._line, self._tokenizer, cancelled)

    def _followed(self, events: list[Event]) -> list[Event]:
        """Remember the state line from which the next one has to go on."""
        for event in events:
            if self._table and isinstance(event, StateShown):
                self._line = position(self._table, self._line, event.line)
        return events

    def _room(self) -> int:
        """Tokens left for a user turn when the history holds nothing but the system turn."""
        fixed = len(self._system) + len(self._prefix) + self._max_reply_tokens + len(self._end)
        return self._engine.context_tokens - fixed

    def _make_room(self, new_tokens: int) -> int:
        """Drop the oldest exchanges until `new_tokens` fit; how many were dropped."""
        used = sum(map(len, self._exchanges))
        if used + new_tokens <= self._room():
            return 0
        spare = int(self._engine.context_tokens * (1 - KEEP_SHARE))
        before = len(self._exchanges)
        while self._exchanges and used + new_tokens > self._room() - spare:
            last_that_fits = len(self._exchanges) == 1 and used + new_tokens <= self._room()
            if last_that_fits:
                break  # it carries the state of the conversation
            used -= len(self._exchanges.pop(0))
        return before - len(self._exchanges)

    def _check_idle(self) -> None:
        if self._running:
            raise UsageError("a reply is still running", hint="wait for it or cancel it")


class _Clock:
    """Time spent in the engine during one turn."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._decoding = 0.0
        self.tokens = 0
        self.ttft_ms = 0.0
        self.first_text_ms = 0.0

    def next(self, replies: Iterator[int]) -> int | None:
        before = time.perf_counter()
        token = next(replies, None)
        now = time.perf_counter()
        if token is not None:
            self.tokens += 1
            if self.tokens == 1:
                self.ttft_ms = (now - self._started) * 1000
            else:
                self._decoding += now - before
        return token

    def seen(self, events: list[Event]) -> list[Event]:
        if not self.first_text_ms and any(isinstance(event, TextDelta) for event in events):
            self.first_text_ms = (time.perf_counter() - self._started) * 1000
        return events

    @property
    def tokens_per_s(self) -> float:
        return (self.tokens - 1) / self._decoding if self._decoding > 0 else 0.0
