"""Files that are never half-written: temporary file, fsync, rename.

Goes in: bytes or a writer. Comes out: either the old artefact or the new one, whatever is killed.
Does not know what it writes.

    >>> write_text(Path("/tmp/x.json"), "{}")
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subterra.runtime.errors import SubterraError, from_os_error
from subterra.runtime.temporary import claimed, remove, swap

CHUNK = 1 << 20
"""Bytes read at a time when hashing."""
OS_ERROR = re.compile(r"(?:os error |Errno )(\d+)")
"""How Rust libraries and shutil word an error number."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
FULL_BYTES = 1 << 16
"""A disk with less is taken for full when a library does not say why it could not write."""


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace `path` with `data` in one rename; a private file has mode 600.

    Raises:
        ResourceError: the folder is read-only or the disk is full.
    """
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text` (UTF-8) in one rename."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: object) -> None:
    """Replace `path` with `document` as indented JSON, keys in the order given."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary file path beside `path`; on success fsync it and rename it over `path`.

    Args:
        path: the file to replace.
        private: keep mode 600 instead of what the umask allows.

    Raises:
        ResourceError: the file cannot be written, whatever library says so.
    """
    with _translated(path), claimed(path, mode=0o600 if private else 0o666) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success sync its files and put it at `path`.

    An old folder of that name trades places with it in one step and is removed last, so a kill
    leaves the old folder or the new one. Where the file system cannot swap, there is an instant in
    which the old one lies under `.NAME.old`; the next writer puts it back.

    Raises:
        ResourceError: the folder cannot be written, whatever library says so.
    """
    old = path.parent / f".{path.name}.old"
    with _translated(path):
        if old.exists() and not path.exists():
            old.rename(path)
        with claimed(path, folder=True) as temporary:
            yield temporary
            for file in (*temporary.rglob("*"), temporary):
                sync(file)
            _put_folder(temporary, path, old)
            sync(path.parent)
            remove(old)


def _put_folder(temporary: Path, path: Path, old: Path) -> None:
    if not os.path.lexists(path):
        temporary.rename(path)
    elif not swap(temporary, path):
        remove(old)
        path.rename(old)
        temporary.rename(path)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn a failed write into a ResourceError; safetensors and torch raise types of their own."""
    try:
        yield
    except SubterraError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise from_os_error(error, path) from error
        found = OS_ERROR.search(str(error))
        number = int(found[1]) if found else errno.ENOSPC if _is_full(path.parent) else 0
        if number not in DISK_ERRORS:
            raise
        raise from_os_error(OSError(number, os.strerror(number)), path) from error


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Hash a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
