"""What a report has measured so far, so that a killed one goes on where it stopped.

Goes in: results, one by one, with what they depend on. Comes out: the same results to a later run
whose inputs are the same. A finished report drops them: measured again means measured anew.

    >>> kept.put("Q8_0", "speed", speed)
    >>> kept.get("Q8_0", "speed", Speed)
    Speed(load_ms=210.0, ...)
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

import subterra
from subterra.runtime.files import write_json
from subterra.runtime.temporary import remove

What = Literal["speed", "divergence", "success"]
Result = TypeVar("Result")

FOLDER = ".measured"


@cache
def code_digest() -> str:
    """Digest subterra's own source files: a result of other code is not taken."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in subterra.__path__ for file in Path(folder).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one work folder; each lies in a file of its own, put in place at once."""

    folder: Path
    inputs: Mapping[What, object]
    """What a result depends on beside the variant and the code: texts, machine, scenarios."""
    variants: Mapping[str, object]
    """Name -> what the variant was made from."""

    def get(self, name: str, what: What, kind: type[Result]) -> Result | None:
        """Return the result, None unless it was measured on the same inputs."""
        try:
            document = json.loads(self._path(name, what).read_bytes())
            if document["inputs"] != self._fingerprint(name, what):
                return None
            return TypeAdapter(kind).validate_python(document["result"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None

    def put(self, name: str, what: What, result: object) -> None:
        """Keep a result.

        Raises:
            ResourceError: the work folder cannot be written.
        """
        found = TypeAdapter(type(result)).dump_python(result, mode="json")
        document = {"inputs": self._fingerprint(name, what), "result": found}
        write_json(self._path(name, what), document)

    def drop(self) -> None:
        """Forget everything."""
        remove(self.folder)

    def _path(self, name: str, what: What) -> Path:
        return self.folder / f"{name}.{what}.json"

    def _fingerprint(self, name: str, what: What) -> str:
        parts = [code_digest(), what, self.variants.get(name), self.inputs.get(what)]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
