"""What a teacher is: somebody who writes text when asked, and can be named afterwards.

Goes in: a system line, a request, a seed. Comes out: a reply. The teachers are `local` (an instruct
GGUF on this machine) and `endpoint` (an OpenAI-compatible server); the teacher `bank` writes
dialogues from files and is not asked anything. Does not know banks or procedures.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["local", "endpoint"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher wrote."""

    text: str
    cut: bool = False
    """The teacher was stopped before its end, so the last line may be half a line."""


class Teacher(Protocol):
    """Writes text."""

    kind: Kind
    model: str
    host: str
    """Who sees what is asked; empty if it stays on this machine."""

    def write(self, system: str, request: str, *, seed: int, lines: int) -> Reply:
        """Answer a request; what comes after so many lines is not wanted.

        Raises:
            TeacherError: the teacher is out of reach, refuses, or answers in no known form.
            EngineError: a local model cannot read the request.
        """

    def close(self) -> None:
        """Free what the teacher holds."""
