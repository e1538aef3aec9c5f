"""Where a training bank's wordings come from, for the adapter's card.

Goes in: a bank. Comes out: digests of its files, and the teacher in the manifest's terms. Does not
know cards or training.

    >>> teacher(bank)
    {'kind': 'endpoint', 'disclosed_to': ['models.example']}
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from subterra.compile.user_bank import UserBank
from subterra.compile.widened_bank import FILE_NAME, Author, authors
from subterra.runtime.files import sha256_file

USERS = "users"
"""Key of the first bank's digest; further ones are `users_2`, `users_3`, ..."""


def bank_digests(bank: UserBank) -> dict[str, str]:
    """Digest each file of a bank: SHA-256."""
    keys = [USERS, *(f"{USERS}_{n}" for n in range(2, len(bank.more) + 2))]
    return {key: sha256_file(path) for key, path in zip(keys, (bank.path, *bank.more), strict=True)}


def written_by(bank: UserBank) -> list[dict[str, str]]:
    """List the teachers that wrote wordings of a bank."""
    return [asdict(author) for author in _authors((bank.path, *bank.more))]


def teacher(bank: UserBank) -> dict[str, object]:
    """Name the teacher that is farthest from the author's files, and who saw the procedure.

    A host that was asked for a widened bank beside the first one saw it too, used or not.
    """
    used = _authors((bank.path, *bank.more))
    kinds = {author.kind for author in used}
    kind = next((kind for kind in ("endpoint", "local") if kind in kinds), "bank")
    beside = bank.path.parent / FILE_NAME
    asked = (*used, *(_authors([beside]) if beside.is_file() else ()))
    return {"kind": kind, "disclosed_to": sorted({a.host for a in asked if a.host})}


def _authors(paths: Iterable[Path]) -> list[Author]:
    return list(dict.fromkeys(author for path in paths for author in authors(path)))
