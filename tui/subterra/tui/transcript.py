"""The transcript: who said what, kept within bounds and written out as plain text.

Goes in: turns as they end. Comes out: text for the clipboard, a file or a pipe. Does not know
widgets, and never reads the engine.

    >>> transcript = Transcript("Zoom support")
    >>> transcript.add("agent", "Hello.")
    >>> transcript.last_reply
    'Hello.'
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from subterra.runtime.files import write_bytes

Speaker = Literal["agent", "user", "notice"]

LABELS: dict[Speaker, str] = {"agent": "Agent", "user": "You", "notice": "Note"}

MAX_ENTRIES = 1000
"""Turns kept; a screen that stays open for days must not grow."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One turn as it was shown."""

    speaker: Speaker
    text: str
    state: str = ""
    note: str = ""
    """How the turn ended when not by itself, such as `stopped`."""


class Transcript:
    """Turns of the conversations since the chat was opened, the newest `limit` of them."""

    def __init__(self, title: str, limit: int = MAX_ENTRIES) -> None:
        self.title = title
        self._entries: deque[Entry] = deque(maxlen=limit)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, speaker: Speaker, text: str, state: str = "", note: str = "") -> None:
        """Append one turn; the oldest goes when the transcript is full."""
        self.dropped += len(self._entries) == self._entries.maxlen
        self._entries.append(Entry(speaker, text, state, note))

    def copy(self) -> "Transcript":
        """Take a copy that another thread can write out while this one grows."""
        other = Transcript(self.title, self._entries.maxlen or MAX_ENTRIES)
        other._entries.extend(self._entries)
        other.dropped = self.dropped
        return other

    @property
    def last_reply(self) -> str:
        """Newest turn of the agent; empty when it has not spoken."""
        return next((e.text for e in reversed(self._entries) if e.speaker == "agent"), "")

    def as_text(self, *, states: bool = False) -> str:
        """Write the transcript as labelled paragraphs, with state lines for an operator."""
        paragraphs = [self.title]
        if self.dropped:
            paragraphs.append(f"(The first {self.dropped} turns are not kept.)")
        paragraphs += [entry_text(entry, states=states) for entry in self._entries]
        return "\n\n".join(paragraphs) + "\n"

    def export(self, folder: Path, moment: datetime, *, states: bool = False) -> Path:
        """Write the transcript into `folder` under a dated name, for its owner's eyes only.

        Raises:
            ResourceError: the folder cannot be written, for instance because the guard closed it.
        """
        path = folder / f"transcript-{moment:%Y-%m-%d-%H%M%S}.txt"
        write_bytes(path, self.as_text(states=states).encode(), private=True)
        return path


def entry_text(entry: Entry, *, states: bool = False) -> str:
    """One turn as labelled lines, the state line first."""
    lines = [f"State: {entry.state}"] if states and entry.state else []
    note = f" ({entry.note})" if entry.note else ""
    return "\n".join([*lines, f"{LABELS[entry.speaker]}: {entry.text}{note}"])
