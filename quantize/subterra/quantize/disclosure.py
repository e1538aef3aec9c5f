"""Find a procedure's own wording in a text that is about to be given away.

Goes in: a procedure file and a text. Comes out: the wordings that stand in the text. Does not know
bundles. Wordings under three words ("Windows", "not fixed") are names, not disclosure; the title
and the system line are meant to be seen.

    >>> disclosed("... Open Settings and choose Audio. ...", {"Open Settings and choose Audio."})
    ['Open Settings and choose Audio.']
"""

import html
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from subterra.compile.yaml_source import Json, read_yaml
from subterra.runtime.errors import ProcedureError

WORDS_MIN: Final = 3
SEEN_BY_ALL: Final = ("title", "system", "name")
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")


def wordings(procedure: Path) -> set[str]:
    """Collect every text of three words or more; a text with `{slot}` gives its parts.

    Raises:
        ProcedureError: the file is missing or not YAML.
    """
    document = read_yaml(procedure, ProcedureError, "check the path").root.plain()
    public = document if isinstance(document, dict) else {}
    seen = {_spaced(text) for key in SEEN_BY_ALL for text in _texts(public.get(key))}
    parts = {_spaced(part) for text in _texts(document) for part in _PLACEHOLDER.split(text)}
    return {part for part in parts if len(part.split()) >= WORDS_MIN} - seen


def disclosed(text: str, secrets: Collection[str]) -> list[str]:
    """List the wordings that stand in a text, in any letter case and spacing."""
    haystack = _spaced(text).casefold()
    return sorted(secret for secret in secrets if secret.casefold() in haystack)


def disclosed_in_file(path: Path, secrets: Collection[str]) -> list[str]:
    """List the wordings that stand in a JSON, HTML or text file, once its escapes are undone."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        text = "\n".join(_texts(json.loads(text)))
    elif path.suffix == ".html":
        text = html.unescape(text)
    return disclosed(text, secrets)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def _spaced(text: str) -> str:
    return " ".join(text.split())
