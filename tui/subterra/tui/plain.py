"""The linear mode: lines in, lines out, for pipes, scripts and screen readers.

Goes in: an `Agent` and lines of the user. Comes out: a transcript with `Agent:` and `You:`, as it
is spoken, without a single escape sequence. Ctrl+C stops the reply; twice, it leaves.

    Agent: Hello, this is Zoom support. ...
    You: nobody hears me
    Agent: ...
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from subterra.runtime.errors import UsageError
from subterra.tui.agent import Agent
from subterra.tui.display_text import one_line, printable
from subterra.tui.events import Done, Event, Piece, State
from subterra.tui.transcript import LABELS

NEW = "/new"
QUIT = "/quit"
ENDED = f"(The conversation has ended; {NEW} starts a new one.)"
INTERRUPTED = 130
AGAIN = b"\n(Ctrl+C once more leaves.)\n"


class Interrupts:
    """Count Ctrl+C: the first stops the reply in progress, the second leaves."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._count = 0

    def forget(self) -> None:
        """Start counting anew, with every line of the user."""
        self._count = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT; writes past Python's buffers, which may be in use right now."""
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        self._cancel()
        os.write(2, AGAIN)


def talk(
    agent: Agent, lines: Iterator[str], out: TextIO, *, echo: bool = False, states: bool = False
) -> int:
    """Hold a conversation until the lines end; return the exit code.

    Args:
        agent: who replies.
        lines: what the user writes, one message a line; `/new` and `/quit` are commands.
        out: where the transcript goes.
        echo: write the user's lines too, because no terminal has shown them.
        states: write the state line before each reply.

    Raises:
        EngineError: the engine failed.
    """
    with _interrupts(agent) as interrupts:
        try:
            _reply(agent.open(), out, states=states)
            for text in _user_lines(lines, out, echo=echo):
                interrupts.forget()
                if text == QUIT:
                    break
                if text == NEW:
                    agent.reset()
                    _write(out, "\n")
                try:
                    _reply(agent.open() if text == NEW else agent.say(text), out, states=states)
                except UsageError as error:  # the message was refused; the conversation stands
                    _write(out, f"{LABELS['notice']}: {error}; {error.hint}\n")
        except KeyboardInterrupt:
            _write(out, "\n")
            return INTERRUPTED
    return 0


def read_lines(source: TextIO, out: TextIO, *, prompt: bool) -> Iterator[str]:
    """Read lines until the end of the file, asking with `You:` at a terminal."""
    while True:
        if prompt:
            _write(out, f"{LABELS['user']}: ")
        line = source.readline()
        if not line:
            if prompt:
                _write(out, "\n")
            return
        yield line


def _user_lines(lines: Iterator[str], out: TextIO, *, echo: bool) -> Iterator[str]:
    for line in lines:
        if not (text := one_line(line)):
            continue
        if echo:
            _write(out, f"{LABELS['user']}: {text}\n")
        yield text


def _reply(events: Iterator[Event], out: TextIO, *, states: bool) -> None:
    spoken = False
    for event in events:
        match event:
            case State() as state:
                if states:
                    _write(out, f"State: {one_line(state.line)}\n")
            case Piece(text=text):
                _write(out, printable(text) if spoken else f"{LABELS['agent']}: {printable(text)}")
                spoken = True
            case Done() as done:
                _end(done, out, spoken=spoken)


def _end(done: Done, out: TextIO, *, spoken: bool) -> None:
    stopped = " (stopped)" if done.cancelled else ""
    _write(out, f"{stopped}\n" if spoken else f"{LABELS['agent']}:{stopped}\n")
    for notice in done.notices:
        _write(out, f"{LABELS['notice']}: {notice}\n")
    if done.ended:
        _write(out, f"{ENDED}\n")


def _write(out: TextIO, text: str) -> None:
    out.write(text)
    out.flush()


@contextmanager
def _interrupts(agent: Agent) -> Iterator[Interrupts]:
    handler = Interrupts(agent.cancel)
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield handler
    finally:
        signal.signal(signal.SIGINT, previous)
