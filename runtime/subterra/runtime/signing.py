"""Ed25519 keys and the detached `signature` file of a bundle.

Goes in: the exact bytes of a manifest and a key. Comes out: a signature file, or the key that a
signature file was made with. Does not know what a manifest says: verification comes before any
parsing of it. Keys live in `SUBTERRA_HOME`, else `$XDG_CONFIG_HOME/subterra`, else
`~/.config/subterra`.

    >>> key = SigningKey.generate()
    >>> verify(b"data", key.sign(b"data"), pinned=key.public).key_id == key.public.key_id
    True
"""

import base64
import binascii
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from subterra.runtime.errors import ResourceError, SignatureError
from subterra.runtime.files import replacing, write_bytes

SIGNATURE_MAX_BYTES: Final = 4096
"""The canonical file has under 400 bytes."""
KEY_MAX_BYTES: Final = 16384
PRIVATE_NAME: Final = "signing.key"
PUBLIC_NAME: Final = "signing.pub"
_FIELDS: Final = ("algorithm", "key_id", "public_key", "signature")


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key, 32 bytes."""

    raw: bytes

    @property
    def key_id(self) -> str:
        """Give the SHA-256 of the raw key, hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Give the first half of the key id in groups of four, to compare by eye."""
        half = self.key_id[:32]
        return " ".join(half[i : i + 4] for i in range(0, 32, 4))

    def to_pem(self) -> bytes:
        """Write the key as PEM, as `openssl pkey -pubin` reads it."""
        return self._key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def check(self, data: bytes, signature: bytes) -> bool:
        """Tell whether this key signed `data`."""
        try:
            self._key().verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, 32 bytes."""

    raw: bytes

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> VerifyKey:
        """Give the public half."""
        return VerifyKey(self._key().public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """Sign `data`; return the bytes of a signature file."""
        return _signature_file(self.public, self._key().sign(data))

    def save(self, folder: Path) -> Path:
        """Write `signing.key` (mode 600) and `signing.pub` to `folder`.

        Raises:
            SignatureError: there is a key already.
            ResourceError: the folder is not writable.
        """
        private = folder / PRIVATE_NAME
        if private.exists():
            raise SignatureError(
                f"there is a key at {private} already",
                hint="bundles sealed with it need it: move it away first, or use --out FOLDER",
            )
        pem = self._key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with replacing(private, private=True) as temporary:
            temporary.write_bytes(pem)
        write_bytes(folder / PUBLIC_NAME, self.public.to_pem())
        (folder / PUBLIC_NAME).chmod(0o644)
        return private

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.raw)


def config_folder() -> Path:
    """Find the folder of this author's keys and salts."""
    if home := os.environ.get("SUBTERRA_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "subterra"


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key in PEM form.

    Raises:
        SignatureError: missing, readable by others, or not an Ed25519 key.
    """
    data = _read_key(path)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SignatureError(f"{path} can be read by others", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} is not a private key", hint="subterra keygen") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key", hint="subterra keygen")
    return SigningKey(key.private_bytes_raw())


def load_verify_key(path: Path) -> VerifyKey:
    """Read a public key in PEM form.

    Raises:
        SignatureError: missing, or not an Ed25519 public key.
    """
    data = _read_key(path)
    hint = "give the author's signing.pub"
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} is not a public key", hint=hint) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path} is not an Ed25519 public key", hint=hint)
    return VerifyKey(key.public_bytes_raw())


def verify(data: bytes, signature_file: bytes, *, pinned: VerifyKey | None = None) -> VerifyKey:
    """Check a signature file over `data`; return the key that made it.

    Without `pinned` the key named in the file is used: that proves the bundle unchanged since
    somebody sealed it, not who did.

    Raises:
        SignatureError: malformed, not over this data, or made with another key than `pinned`.
    """
    key, signature = _parse(signature_file)
    if pinned is not None and pinned.raw != key.raw:
        raise SignatureError(
            f"sealed with key {key.fingerprint}, not with the given {pinned.fingerprint}",
            hint="get the bundle, or the right signing.pub, from its author",
        )
    if not key.check(data, signature):
        raise SignatureError(
            "the signature does not fit manifest.json",
            hint="the bundle was changed after sealing: fetch it again from its author",
        )
    return key


def _signature_file(key: VerifyKey, signature: bytes) -> bytes:
    document = dict(
        zip(
            _FIELDS,
            ("ed25519", key.key_id, base64.b64encode(key.raw).decode(),
             base64.b64encode(signature).decode()),
            strict=True,
        )
    )  # fmt: skip
    return (json.dumps(document, indent=2) + "\n").encode()


def _parse(signature_file: bytes) -> tuple[VerifyKey, bytes]:
    malformed = SignatureError(
        "the signature file is malformed", hint="fetch the bundle again from its author"
    )
    if len(signature_file) > SIGNATURE_MAX_BYTES:
        raise malformed
    try:
        document = json.loads(signature_file)
        key = VerifyKey(base64.b64decode(document["public_key"], validate=True))
        signature = base64.b64decode(document["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise malformed from error
    # One key and signature have one spelling, so that no byte of the file is free.
    if len(key.raw) != 32 or _signature_file(key, signature) != signature_file:
        raise malformed
    return key, signature


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(KEY_MAX_BYTES)
    except FileNotFoundError:
        raise SignatureError(f"there is no key at {path}", hint="subterra keygen") from None
    except OSError as error:
        raise ResourceError(
            f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
        ) from error
