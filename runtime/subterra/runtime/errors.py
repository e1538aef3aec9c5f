"""Every error that a user of subterra can meet.

    SubterraError                  exit code
    ├── UsageError                 2    wrong arguments
    ├── InputError                 3    a file the user wrote is wrong
    │   ├── ProcedureError              procedure.yaml
    │   └── UserBankError               users/*.yaml
    ├── ModelError                 4    a base model, adapter or engine file is wrong
    │   ├── BaseModelError              unknown, damaged or unreachable base
    │   ├── AdapterError                adapter made for another base, or damaged
    │   ├── ExportError                 a checkpoint cannot be exported or quantized
    │   └── EngineError                 an engine refuses a model or a prompt
    ├── BundleError                5    a sealed agent cannot be trusted or read
    │   └── SignatureError              missing, foreign or wrong signature
    ├── GuardError                 6    the kernel lock-down is not in force
    ├── ResourceError              7    disk, memory or permission
    ├── MissingExtraError          8    an optional dependency is not installed
    ├── ScoreError                 9    a requirement on a score or report was not met
    └── TeacherError               10   a teacher is out of reach or writes nonsense

Goes in: what happened, with the value and the path. Comes out: two lines on stderr.

    >>> str(SubterraError("adapter x is for base y", hint="subterra compile --base y"))
    'adapter x is for base y'
"""

import errno
from pathlib import Path


class SubterraError(Exception):
    """Root of the tree: a message (what happened) and a hint (what to do next)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SubterraError):
    """The command line does not make sense."""

    exit_code = 2


class InputError(SubterraError):
    """A file that the user wrote is wrong."""

    exit_code = 3


class ProcedureError(InputError):
    """The procedure does not parse or is not a valid flowchart."""


class UserBankError(InputError):
    """A user bank does not parse or does not fit the procedure."""


class ModelError(SubterraError):
    """A base model, adapter or engine file is wrong."""

    exit_code = 4


class BaseModelError(ModelError):
    """The base model is unknown, damaged or out of reach."""


class AdapterError(ModelError):
    """The adapter is damaged or was made for another base model."""


class ExportError(ModelError):
    """A checkpoint cannot be exported or quantized."""


class EngineError(ModelError):
    """An engine refuses a model file or a prompt."""


class BundleError(SubterraError):
    """A sealed agent is incomplete, changed or not readable."""

    exit_code = 5


class SignatureError(BundleError):
    """The signature is missing, wrong or made with another key."""


class GuardError(SubterraError):
    """A layer of the kernel lock-down is missing or not in force."""

    exit_code = 6


class ResourceError(SubterraError):
    """The disk is full, a folder is read-only, or memory is short."""

    exit_code = 7


class MissingExtraError(SubterraError):
    """An optional dependency is not installed."""

    exit_code = 8

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this step needs {package}, which is not installed",
            hint=f"pip install 'subterra[{extra}]'",
        )


class ScoreError(SubterraError):
    """A score or a report misses a requirement that the user set."""

    exit_code = 9


class TeacherError(SubterraError):
    """A teacher is out of reach, refuses, or writes nothing that can be used."""

    exit_code = 10


def from_os_error(error: OSError, path: Path) -> ResourceError:
    """Translate an OSError met while writing `path` into a ResourceError with a next step."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return ResourceError(f"no space left while writing {path}", hint="free some disk space")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ResourceError(
            f"cannot write {path}: {reason}",
            hint="choose a writable folder (--out), or set SUBTERRA_CACHE for the cache",
        )
    return ResourceError(f"cannot write {path}: {reason}", hint="check the path and the disk")
