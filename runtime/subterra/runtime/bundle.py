"""Open a sealed agent: signature first, then every file, then trust.

Goes in: a folder `NAME.agent`. Comes out: a `Bundle` whose manifest is signed and whose files are
exactly those listed, byte for byte. Does not know engines; never parses a model file.

    bundle = open_bundle(Path("zoom_support.agent"), key=load_verify_key(Path("signing.pub")))
    bundle.variant_path("Q8_0")
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from subterra.runtime.errors import BundleError, SignatureError
from subterra.runtime.files import CHUNK
from subterra.runtime.manifest import (
    FILES_MAX,
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    PATH_MAX_DEPTH,
    SIGNATURE_NAME,
    TOKENIZER_NAME,
    Manifest,
    Variant,
    parse_manifest,
)
from subterra.runtime.signing import SIGNATURE_MAX_BYTES, VerifyKey, verify
from subterra.runtime.transition_table import (
    TRANSITIONS_MAX_BYTES,
    TRANSITIONS_NAME,
    TransitionTable,
    parse_table,
)

TOKENIZER_MAX_BYTES: Final = 64 << 20
"""The largest published vocabularies stay below 40 MiB."""
_AGAIN: Final = (
    "fetch the bundle again from its author, or seal it again: subterra seal WORK_FOLDER"
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A sealed agent that has been checked."""

    path: Path
    manifest: Manifest
    signer: VerifyKey | None
    """The key that signed it; None when an unsigned bundle was allowed."""
    pinned: bool
    """Whether the caller named the signer's key."""
    table: TransitionTable | None = None
    """The legal transitions, where the agent carries them."""

    @property
    def tokenizer(self) -> Path:
        """Locate tokenizer.json."""
        return self.path / TOKENIZER_NAME

    def variant(self, name: str | None = None) -> Variant:
        """Find a variant by name, the default one without a name.

        Raises:
            BundleError: the agent has no such variant.
        """
        return self.manifest.variant(name)

    def variant_path(self, name: str | None = None) -> Path:
        """Locate a variant's model file, or its folder for ONNX.

        Raises:
            BundleError: the agent has no such variant.
        """
        return self.path / self.variant(name).path


def open_bundle(
    path: Path, *, key: VerifyKey | None = None, allow_unsigned: bool = False
) -> Bundle:
    """Check a bundle and open it.

    The signature over the exact bytes of the manifest is verified before these are parsed; then
    the folder must hold exactly the files listed, with their digests and sizes.

    Args:
        path: the folder.
        key: the author's public key; without it the key inside the bundle is used, which proves
            integrity and not origin.
        allow_unsigned: accept a bundle without a signature file (a wrong one is still refused).

    Raises:
        BundleError: missing, incomplete, changed, or with unsafe names.
        SignatureError: unsigned, wrongly signed, or signed with another key.
    """
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a symlink
    _check_folder(root)
    data = _read(root, MANIFEST_NAME, MANIFEST_MAX_BYTES)
    signer = _signer(root, data, key, allow_unsigned)
    manifest = parse_manifest(data)
    _check_tree(root, manifest, signed=signer is not None)
    sizes = {name: _check_file(root, name, digest) for name, digest in manifest.files.items()}
    for variant in manifest.variants:
        total = sum(sizes[name] for name in manifest.files_of(variant))
        if total != variant.bytes:
            raise BundleError(
                f"{variant.path} has {total} bytes, the manifest says {variant.bytes}", hint=_AGAIN
            )
    return Bundle(root, manifest, signer, key is not None, _table(root, manifest))


def _signer(
    root: Path, data: bytes, key: VerifyKey | None, allow_unsigned: bool
) -> VerifyKey | None:
    if not os.path.lexists(root / SIGNATURE_NAME):
        if allow_unsigned and key is None:
            return None
        raise SignatureError(
            f"{root} is not signed", hint="ask its author, or pass --allow-unsigned to trust it"
        )
    return verify(data, _read(root, SIGNATURE_NAME, SIGNATURE_MAX_BYTES), pinned=key)


def _check_folder(root: Path) -> None:
    try:
        mode = root.lstat().st_mode
    except OSError as error:
        raise BundleError(
            f"there is no bundle at {root}", hint="subterra build examples/zoom_support"
        ) from error
    if not stat.S_ISDIR(mode):
        raise BundleError(f"{root} is not a folder", hint="a bundle is a folder NAME.agent")


def _check_tree(root: Path, manifest: Manifest, *, signed: bool) -> None:
    listed = {*manifest.files, MANIFEST_NAME} | ({SIGNATURE_NAME} if signed else set())
    folders = {str(parent) for name in listed for parent in Path(name).parents} - {"."}
    found = set()
    for entry, name in _entries(root):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise BundleError(f"{name!r} is a link or a special file", hint=_AGAIN)
        if name not in (folders if entry.is_dir() else listed):
            raise BundleError(f"{name!r} is not part of the sealed agent", hint=_AGAIN)
        found.add(name)
    if missing := sorted(listed - found):
        raise BundleError(f"{missing[0]!r} is missing from {root}", hint=_AGAIN)


def _entries(root: Path, inside: str = "") -> Iterator[tuple["os.DirEntry[str]", str]]:
    if inside.count("/") > PATH_MAX_DEPTH:
        raise BundleError(f"{inside!r} is too deep", hint=_AGAIN)
    try:
        with os.scandir(root / inside) as listing:
            entries = [entry for entry, _ in zip(listing, range(2 * FILES_MAX), strict=False)]
    except OSError as error:
        raise BundleError(f"cannot list {root / inside}: {error.strerror}", hint=_AGAIN) from error
    for entry in entries:
        name = f"{inside}{entry.name}"
        yield entry, name
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(root, f"{name}/")


def _check_file(root: Path, name: str, digest: str) -> int:
    actual, size = hashlib.sha256(), 0
    with _Opened(root, name) as handle:
        while chunk := os.read(handle, CHUNK):
            actual.update(chunk)
            size += len(chunk)
    if actual.hexdigest() != digest:
        raise BundleError(f"{name!r} does not match its digest in the manifest", hint=_AGAIN)
    if name == TOKENIZER_NAME and size > TOKENIZER_MAX_BYTES:
        raise BundleError(f"{name!r} has {size} bytes, over {TOKENIZER_MAX_BYTES}", hint=_AGAIN)
    return size


def _table(root: Path, manifest: Manifest) -> TransitionTable | None:
    if not manifest.constrained:
        return None
    data = _read(root, TRANSITIONS_NAME, TRANSITIONS_MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != manifest.files[TRANSITIONS_NAME]:
        raise BundleError(f"{TRANSITIONS_NAME!r} was changed while it was checked", hint=_AGAIN)
    table = parse_table(data)
    if table.slot_names != manifest.slots:
        raise BundleError(
            f"{TRANSITIONS_NAME} has the slots {', '.join(table.slot_names) or 'none'}, "
            f"{MANIFEST_NAME} {', '.join(manifest.slots) or 'none'}",
            hint=_AGAIN,
        )
    return table


def _read(root: Path, name: str, limit: int) -> bytes:
    with _Opened(root, name) as handle:
        data = b""
        while len(data) <= limit and (chunk := os.read(handle, CHUNK)):
            data += chunk
    if len(data) > limit:
        raise BundleError(f"{name} is larger than {limit} bytes", hint=_AGAIN)
    return data


class _Opened:
    """A regular file opened for reading without following a link at its end."""

    def __init__(self, root: Path, name: str) -> None:
        self._path, self._name = root / name, name
        self._handle = -1

    def __enter__(self) -> int:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self._handle = os.open(self._path, flags | getattr(os, "O_BINARY", 0))
            regular = stat.S_ISREG(os.fstat(self._handle).st_mode)
        except OSError as error:
            raise BundleError(self._reason(error), hint=_AGAIN) from error
        if not regular:
            os.close(self._handle)
            raise BundleError(f"{self._name!r} is not a regular file", hint=_AGAIN)
        return self._handle

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        os.close(self._handle)
        if isinstance(error, OSError):
            raise BundleError(self._reason(error), hint=_AGAIN) from error

    def _reason(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return f"{self._name!r} is missing from {self._path.parent}"
        if error.errno == errno.ELOOP:
            return f"{self._name!r} is a link"
        return f"cannot read {self._path}: {error.strerror}"
