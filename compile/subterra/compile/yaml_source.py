"""YAML 1.2 files, read safely, with the line and column of every key and value.

Goes in: the path of a file that a user wrote. Comes out: a `Document`, or an `InputError` that
names the place. Only mappings, lists and scalars exist: tags are refused, dates stay text, and
depth, size and aliases are limited, so that a hostile file costs neither memory nor time. Does not
know what the keys mean.

    >>> parse_yaml("start: welcome", Path("p.yaml"), ProcedureError).position(("start",))
    (1, 8)
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from subterra.runtime.errors import InputError

MAX_BYTES = 8 << 20
"""A user bank of 50,000 wordings is about 4 MiB."""
MAX_DEPTH = 24
"""Levels of nesting; a procedure needs 8."""
MAX_VALUES = 400_000
"""Values after aliases are expanded: stops alias bombs."""
MAX_SHOWN = 200
"""Problems listed in one message."""

Scalar = str | int | float | bool | None
Json = Scalar | list["Json"] | dict[str, "Json"]
Steps = tuple[str | int, ...]
"""Keys and indices from the root to a value."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(?P<yes>true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong at a place of a file; line and column count from 1."""

    line: int
    column: int
    words: str


@dataclass(slots=True)
class Value:
    """A YAML value and where it stands; `keys` holds where each key of a mapping stands."""

    content: "Scalar | list[Value] | dict[str, Value]"
    line: int
    column: int
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    weight: int = 1
    """Values in this tree, aliases counted each time."""

    def at(self, steps: Steps) -> "Value | None":
        """Find the value that the steps lead to, if there is one."""
        found: Value | None = self
        for step in steps:
            found = found.child(step) if found is not None else None
        return found

    def child(self, step: str | int) -> "Value | None":
        """Find the value under a key or index, if there is one."""
        if isinstance(self.content, dict) and isinstance(step, str):
            return self.content.get(step)
        if isinstance(self.content, list) and isinstance(step, int):
            return next(iter(self.content[step : step + 1]), None)
        return None

    def items(self) -> "list[Value]":
        """List the values of a list; of anything else, none."""
        return self.content if isinstance(self.content, list) else []

    def remove(self, step: str | int) -> None:
        """Take an item or a key out, if it is there."""
        if isinstance(self.content, dict) and isinstance(step, str):
            self.content.pop(step, None)
        elif isinstance(self.content, list) and isinstance(step, int) and step < len(self.content):
            del self.content[step]

    def plain(self) -> Json:
        """Give the value without places."""
        if isinstance(self.content, dict):
            return {key: value.plain() for key, value in self.content.items()}
        if isinstance(self.content, list):
            return [value.plain() for value in self.content]
        return self.content


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file, with the problems that do not keep it from being read further."""

    path: Path
    root: Value
    problems: tuple[Problem, ...]

    def position(self, path: Steps, *, key: bool = False) -> tuple[int, int]:
        """Locate a value, or the nearest thing around it that exists; with `key`, its key."""
        at, place = self.root, (self.root.line, self.root.column)
        for step in path:
            below = at.child(step)
            if below is None:
                break
            place = (below.line, below.column)
            if key and isinstance(at.content, dict):
                place = at.keys[str(step)]
            at = below
        return place

    def problem(self, path: Steps, words: str, *, key: bool = False) -> Problem:
        """Make a problem that points at a value."""
        line, column = self.position(path, key=key)
        return Problem(line, column, words)


def read_yaml(path: Path, error: type[InputError], hint: str) -> Document:
    """Read a YAML file.

    Raises:
        InputError: of the type `error`; the file is missing, a folder, too large, not UTF-8, not
            YAML, or nested or aliased beyond the limits.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as failure:
        words = (failure.strerror or str(failure)).lower()
        if isinstance(failure, FileNotFoundError):
            words = "there is no such file"
        elif isinstance(failure, IsADirectoryError):
            words = "it is a folder"
        raise error(f"cannot read {path}: {words}", hint=hint) from failure
    except ValueError as failure:
        raise error(f"cannot read {str(path)!r}: {failure}", hint=hint) from failure
    if len(data) > MAX_BYTES:
        raise error(
            f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="split it or check the path"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        column = failure.start - (data.rfind(b"\n", 0, failure.start) + 1) + 1
        raise error(f"{path}:{line}:{column}: not UTF-8 text", hint="save it as UTF-8") from failure
    return parse_yaml(text, path, error)


def parse_yaml(text: str, path: Path, error: type[InputError]) -> Document:
    """Parse YAML text that stands in `path`.

    Raises:
        InputError: of the type `error`; the text is not one YAML document within the limits.
    """
    hint = f"mend the YAML in {path.name} and run the same command again"
    try:
        return _Composer(path).compose(_events(text))
    except _StopReadingError as stop:
        problem = stop.problem
    except MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = Problem(place[0], place[1], f"broken YAML: {failure.problem or failure.context}")
    except YAMLError as failure:
        line, column = _bad_character(text)
        problem = Problem(line, column, f"broken YAML: {str(failure).splitlines()[0]}")
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, AssertionError) as failure:
        # ruamel lets a few of its own slips through on malformed escapes and directives.
        problem = Problem(1, 1, f"broken YAML ({failure})")
    raise error(f"{path}:{problem.line}:{problem.column}: {problem.words}", hint=hint)


def failure_of(
    path: Path, problems: Iterable[Problem], error: type[InputError], hint: str
) -> InputError:
    """Make one error of all problems, sorted by place."""
    found = sorted(set(problems))
    lines = [f"{path}:{p.line}:{p.column}: {p.words}" for p in found]
    if len(lines) == 1:
        return error(lines[0], hint=hint)
    shown = lines[:MAX_SHOWN]
    if len(lines) > MAX_SHOWN:
        shown.append(f"... and {len(lines) - MAX_SHOWN} more")
    return error(f"{path} has {len(lines)} problems\n" + "\n".join(shown), hint=hint)


def closest(word: str, known: Iterable[str]) -> str:
    """Word a suggestion, or nothing where no known word is near."""
    found = near(word, known)
    return f"; did you mean '{found}'?" if found else ""


def near(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant, if any is near."""
    names = list(known)
    folded = {name.casefold(): name for name in reversed(names)}
    if word.casefold() in folded:
        return folded[word.casefold()]
    return next(iter(get_close_matches(word, names, n=1, cutoff=0.6)), None)


class _StopReadingError(Exception):
    def __init__(self, line: int, column: int, words: str) -> None:
        super().__init__(words)
        self.problem = Problem(line, column, words)


def _events(text: str) -> Iterator[Event]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from YAML(typ="safe", pure=True).parse(text)


def _bad_character(text: str) -> tuple[int, int]:
    found = re.search(
        r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", text
    )
    before = text[: found.start() if found else 0]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Composer:
    """Builds values from parser events, without recursion over anything the file controls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._anchors: dict[str, Value] = {}
        self._problems: list[Problem] = []
        self._values = 0

    def compose(self, events: Iterator[Event]) -> Document:
        """Build the document.

        Raises:
            _StopReadingError: a limit is passed, or there is not exactly one document.
        """
        root: Value | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent) and root is not None:
                raise _StopReadingError(
                    *_place(event), "a second document; one file holds one document"
                )
            if isinstance(event, NodeEvent):
                root = self._value(event, events, 1)
        if root is None:
            root = Value(None, 1, 1)
        return Document(self._path, root, tuple(self._problems))

    def _value(self, event: NodeEvent, events: Iterator[Event], depth: int) -> Value:
        line, column = _place(event)
        if depth > MAX_DEPTH:
            raise _StopReadingError(line, column, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(event)
        self._count(1, line, column)
        self._check_tag(event)
        value = Value(None, line, column)
        if isinstance(event, ScalarEvent):
            value.content = self._scalar(event)
        elif isinstance(event, SequenceStartEvent):
            value.content = self._items(value, events, depth)
        elif isinstance(event, MappingStartEvent):
            value.content = self._pairs(value, events, depth)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _scalar(self, event: ScalarEvent) -> Scalar:
        content = _scalar(event)
        if isinstance(content, str) and any("\ud800" <= c <= "\udfff" for c in content):
            self._problems.append(Problem(*_place(event), "half of a surrogate pair in the text"))
            return content.encode("utf-8", "replace").decode()
        return content

    def _alias(self, event: AliasEvent) -> Value:
        line, column = _place(event)
        target = self._anchors.get(event.anchor)
        if target is None:
            raise _StopReadingError(line, column, f"alias '*{event.anchor}' has no finished anchor")
        self._count(target.weight, line, column)
        return target

    def _items(self, value: Value, events: Iterator[Event], depth: int) -> "list[Value]":
        items: list[Value] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            if isinstance(event, NodeEvent):
                items.append(self._value(event, events, depth + 1))
                value.weight += items[-1].weight
        return items

    def _pairs(self, value: Value, events: Iterator[Event], depth: int) -> "dict[str, Value]":
        pairs: dict[str, Value] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, NodeEvent):
                continue
            key = self._value(event, events, depth + 1)
            held = self._next_value(events, depth + 1)
            value.weight += key.weight + held.weight
            name = self._key_name(key, _place(event), pairs, value.keys)
            if name is not None:
                pairs[name] = held
                value.keys[name] = _place(event)
        return pairs

    def _next_value(self, events: Iterator[Event], depth: int) -> Value:
        event = next(events)
        if not isinstance(event, NodeEvent):
            raise _StopReadingError(*_place(event), "a key without a value")
        return self._value(event, events, depth)

    def _key_name(
        self,
        key: Value,
        place: tuple[int, int],
        pairs: Mapping[str, Value],
        places: Mapping[str, tuple[int, int]],
    ) -> str | None:
        if isinstance(key.content, (list, dict)) or key.content is None:
            self._problems.append(Problem(*place, "a key must be a plain word"))
            return None
        name = key.content if isinstance(key.content, str) else str(key.content)
        if name in pairs:
            words = f"'{name}' is given twice (first in line {places[name][0]})"
            self._problems.append(Problem(*place, words))
            return None
        return name

    def _check_tag(self, event: NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in ("!", "tag:yaml.org,2002:str"):
            self._problems.append(Problem(*_place(event), f"the tag '{tag}' is not allowed"))

    def _count(self, values: int, line: int, column: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise _StopReadingError(
                line, column, f"more than {MAX_VALUES} values, aliases expanded"
            )


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)


def _scalar(event: ScalarEvent) -> Scalar:
    """Resolve a plain scalar by the YAML 1.2 core schema (section 10.3 of the specification)."""
    text = str(event.value)
    if not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if matched := _BOOL.fullmatch(text):
        return matched["yes"] is not None
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
