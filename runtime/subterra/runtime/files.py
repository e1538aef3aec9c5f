"""Files that are never half-written: temporary file, fsync, rename.

Goes in: bytes or a writer. Comes out: either the old artefact or the new one, whatever is killed.
Does not know what it writes.

    >>> write_text(Path("/tmp/x.json"), "{}")
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subterra.runtime.errors import from_os_error

CHUNK = 1 << 20
"""Bytes read at a time when hashing."""


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
        ResourceError: an OSError happened while writing.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if not private:
            temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success sync its files and rename it to `path`.

    An old folder of that name is moved away first and removed last, so a kill leaves the old
    folder, the new one, or (between the two renames) the old one under `.NAME.old`.

    Raises:
        ResourceError: an OSError happened while writing.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.parent / f".{path.name}.old"
        if old.exists() and not path.exists():
            old.rename(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        temporary.chmod(0o755)
        yield temporary
        for file in temporary.rglob("*"):
            sync(file)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """Read the process's umask (the only portable way is to set it and put it back)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
