"""One reply as it streams: the state line is split off, the rest is text for the user.

Goes in: token ids. Comes out: events. Control characters are removed from what is shown; the token
ids are kept as they were. Does not know engines or turns.

    >>> reader = ReplyReader(tokenizer.stream_decoder(), has_state=True, slot_names=("issue",))
    >>> events = [event for token in reply for event in reader.feed(token)]
"""

from dataclasses import dataclass

from subterra.runtime import state_line
from subterra.runtime.chatml import StreamDecoder
from subterra.runtime.state_line import StateLine

_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class StateShown:
    """The hidden first line of a reply; `line` is None when the model wrote it malformed."""

    line: StateLine | None
    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the visible reply, free of control characters."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnStats:
    """What one turn cost."""

    prompt_tokens: int
    """Tokens of the whole prompt, cached or not."""
    new_tokens: int
    ttft_ms: float
    """Milliseconds from the call to the first token, hidden or not; 0 without one."""
    first_text_ms: float
    """Milliseconds from the call to the first visible text; 0 without one."""
    tokens_per_s: float
    """Tokens per second after the first one, time spent by the caller left out."""
    cancelled: bool
    """The turn was cancelled; if nothing was shown before, it left the history altogether."""
    hit_limit: bool
    """The reply was cut at `max_reply_tokens`."""
    truncated_turns: int
    """Oldest exchanges dropped before this turn, to fit the context."""


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is over."""

    stats: TurnStats


Event = StateShown | TextDelta | Done


class ReplyReader:
    """Split one reply into its state line and its visible text as the tokens come."""

    def __init__(
        self, decoder: StreamDecoder, *, has_state: bool, slot_names: tuple[str, ...]
    ) -> None:
        self._decoder = decoder
        self._slot_names = slot_names
        self._in_state = has_state
        self._held = ""
        self._tokens: list[int] = []
        self._whole = 0
        self.shown = False
        """Something of the reply, at least its state line, reached the caller."""

    @property
    def tokens(self) -> list[int]:
        """Tokens as far as they were shown: those of an unfinished character are left out."""
        return self._tokens[: self._whole]

    def feed(self, token: int) -> list[Event]:
        """Take the next token; events it completes."""
        self._tokens.append(token)
        events = self._text(self._decoder.feed(token))
        if not self._decoder.holds_bytes:
            self._whole = len(self._tokens)
        return events

    def finish(self, *, cancelled: bool) -> list[Event]:
        """End the reply; events still held, none when it was cancelled."""
        if cancelled:
            return []
        events = self._text(self._decoder.flush())
        self._whole = len(self._tokens)
        self.shown = True
        if self._in_state:  # one line only: a state line without a reply, or a reply without one
            line = state_line.parse(self._held, self._slot_names)
            shown = self._clean(self._held)
            events.append(StateShown(line, shown if line else ""))
            if line is None and shown:
                events.append(TextDelta(shown))
        return events

    def _text(self, text: str) -> list[Event]:
        events: list[Event] = []
        if self._in_state:
            self._held += text
            first, newline, text = self._held.partition("\n")
            if not newline:
                return []
            self._in_state = False
            self.shown = True
            line = state_line.parse(first, self._slot_names)
            events.append(StateShown(line, self._clean(first)))
        if visible := self._clean(text):
            self.shown = True
            events.append(TextDelta(visible))
        return events

    @staticmethod
    def _clean(text: str) -> str:
        """Drop control characters, which could steer a terminal."""
        return text.translate(_CONTROLS)
