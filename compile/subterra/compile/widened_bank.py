"""The bank that teachers write: it grows beside the training bank, and says who wrote it.

Goes in: new wordings, by intent. Comes out: a user bank, whole at any moment, whose first lines
name each teacher with model, host and date. Does not know how wordings are made or judged.

    # teacher: {"kind": "local", "model": "instruct.gguf", "host": "", "date": "2026-11-22"}
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from subterra.compile.bank_document import read_bank_document
from subterra.compile.teachers import Kind
from subterra.compile.yaml_source import failure_of
from subterra.runtime.errors import UserBankError
from subterra.runtime.files import write_text

FILE_NAME = "widened.yaml"
MARK = "# teacher: "
TITLE = "# User wordings that teachers wrote, for training; `subterra widen` adds to this file."


@dataclass(frozen=True, slots=True)
class Author:
    """A teacher, as the file names it."""

    kind: Kind
    model: str
    host: str
    """That saw the requests; empty for this machine."""
    date: str
    """Of its first wording, ISO 8601."""


def authors(path: Path) -> tuple[Author, ...]:
    """Read who wrote a bank; nobody is named in a bank that its author wrote by hand.

    Raises:
        UserBankError: the file cannot be read, or a line that names a teacher is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserBankError(f"cannot read {path}: {error}", hint="check the path") from None
    marked = [(n, line) for n, line in enumerate(lines, 1) if line.startswith(MARK)]
    return tuple(_author(line, f"{path}:{n}") for n, line in marked)


def has_wordings(path: Path) -> bool:
    """Tell whether a file holds more than the names of teachers.

    Raises:
        UserBankError: the file cannot be read or is not YAML.
    """
    return read_bank_document(path).document.root.content is not None


class WidenedBank:
    """The file and what it holds."""

    def __init__(self, path: Path) -> None:
        """Take up the file if there is one; nothing is written yet.

        Raises:
            UserBankError: the file is damaged, or no teacher wrote it.
        """
        self.path = path
        self.authors: tuple[Author, ...] = ()
        self._texts: dict[str, list[str]] = {}
        if path.exists():
            self.authors = authors(path)
            self._texts = _texts(path, self.authors)

    def wordings(self, intent: str) -> Sequence[str]:
        """List what the file holds for an intent."""
        return self._texts.get(intent, ())

    def size(self) -> int:
        """Count all wordings."""
        return sum(map(len, self._texts.values()))

    def lacking(self, intents: Iterable[str], count: int) -> list[str]:
        """List the intents for which there are fewer wordings than `count`."""
        return [intent for intent in intents if len(self.wordings(intent)) < count]

    def sign(self, new: Author) -> None:
        """Name a teacher in the file, before it is asked for the first time.

        So the file tells who saw the requests, even if nothing that came back was of use.
        """
        if not any(
            (a.kind, a.model, a.host) == (new.kind, new.model, new.host) for a in self.authors
        ):
            self.authors = (*self.authors, new)
            self._save()

    def add(self, intent: str, texts: Sequence[str]) -> None:
        """Add wordings and write the file.

        Raises:
            ResourceError: the folder is read-only or the disk is full.
        """
        if texts:
            self._texts.setdefault(intent, []).extend(texts)
            self._save()

    def _save(self) -> None:
        lines = [TITLE, *(MARK + json.dumps(asdict(author)) for author in self.authors)]
        for intent, texts in self._texts.items():
            lines += ["", f"{intent}:"]
            lines += [f"  - {json.dumps(text, ensure_ascii=False)}" for text in texts]
        write_text(self.path, "\n".join(lines) + "\n")


def _texts(path: Path, written_by: Sequence[Author]) -> dict[str, list[str]]:
    hint = "give another file with --out"
    if not written_by:
        raise UserBankError(f"{path} names no teacher, so it is not widened", hint=hint)
    if not has_wordings(path):
        return {}
    document = read_bank_document(path)
    problems = list(document.problems)
    if document.slots:
        problems.append(document.key_problem(("slots",), "a widened bank has no slots"))
    if problems:
        raise failure_of(path, problems, UserBankError, f"mend {path}, or {hint}")
    return {name: [e.text for e in entries] for name, entries in document.intents.items()}


def _author(line: str, place: str) -> Author:
    try:
        author = Author(**json.loads(line.removeprefix(MARK)))
        if author.kind not in get_args(Kind) or not all(
            isinstance(text, str) and text.isprintable() for text in asdict(author).values()
        ):
            raise ValueError(line)
    except (ValueError, TypeError, RecursionError):
        hint = (
            'a whole line reads: # teacher: {"kind": ..., "model": ..., "host": ..., "date": ...}'
        )
        raise UserBankError(
            f"{place}: the line that names a teacher is damaged", hint=hint
        ) from None
    return author
