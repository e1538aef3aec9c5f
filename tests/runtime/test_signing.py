"""Keys, their files, and the detached signature."""

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra.runtime.cli import main
from subterra.runtime.errors import SignatureError
from subterra.runtime.signing import (
    SigningKey,
    VerifyKey,
    config_folder,
    load_signing_key,
    load_verify_key,
    verify,
)

KEY = SigningKey(bytes(range(32)))


@given(data=st.binary(max_size=200), other=st.binary(max_size=200))
def test_a_signature_fits_its_own_data_only(data: bytes, other: bytes) -> None:
    signature = KEY.sign(data)
    assert verify(data, signature, pinned=KEY.public) == KEY.public
    if other != data:
        with pytest.raises(SignatureError, match="does not fit"):
            verify(other, signature)


@given(signature=st.binary(max_size=300))
def test_a_malformed_signature_raises_only_our_error(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(b"data", signature)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {**d, "algorithm": "none"},
        lambda d: {**d, "key_id": "0" * 64},
        lambda d: {**d, "public_key": ""},
        lambda d: {**d, "public_key": 5},
        lambda d: {**d, "signature": d["signature"] + "\n"},
        lambda d: {**d, "extra": 1},
        lambda d: [d],
        lambda d: {k: v for k, v in d.items() if k != "signature"},
    ],
)
def test_every_field_of_the_signature_file_counts(change: object) -> None:
    document = json.loads(KEY.sign(b"data"))
    assert callable(change)
    changed = (json.dumps(change(document), indent=2) + "\n").encode()
    with pytest.raises(SignatureError, match="malformed"):
        verify(b"data", changed)


def test_a_key_of_small_order_is_refused() -> None:
    neutral = VerifyKey(bytes([1]) + bytes(31))
    forged = KEY.sign(b"data").replace(KEY.public.key_id.encode(), neutral.key_id.encode())
    with pytest.raises(SignatureError):
        verify(b"data", forged)


def test_saved_keys_are_private_and_read_back(tmp_path: Path) -> None:
    private = KEY.save(tmp_path / "keys")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert load_signing_key(private) == KEY
    assert load_verify_key(private.with_name("signing.pub")) == KEY.public
    with pytest.raises(SignatureError, match="already"):
        SigningKey.generate().save(tmp_path / "keys")
    assert load_signing_key(private) == KEY


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    private = KEY.save(tmp_path)
    private.chmod(0o644)
    with pytest.raises(SignatureError, match="read by others") as caught:
        load_signing_key(private)
    assert caught.value.hint == f"chmod 600 {private}"


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (load_signing_key, load_verify_key):
        with pytest.raises(SignatureError):
            load(path)
    with pytest.raises(SignatureError, match="no key at"):
        load_verify_key(tmp_path / "none")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "a", tmp_path / "b"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, spki))
    with pytest.raises(SignatureError, match="Ed25519"):
        load_signing_key(private)
    with pytest.raises(SignatureError, match="Ed25519"):
        load_verify_key(public)


def test_the_settings_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    monkeypatch.delenv("SUBTERRA_HOME", raising=False)
    assert config_folder() == Path("/x/subterra")
    monkeypatch.setenv("SUBTERRA_HOME", "/home/keys")
    assert config_folder() == Path("/home/keys")


def test_keygen_says_where_the_keys_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUBTERRA_HOME", str(tmp_path))
    assert main(["keygen", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert load_verify_key(Path(document["public"])).key_id == document["key_id"]
    assert "next: subterra seal" in err
    assert main(["keygen"]) == 5
    assert "already" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_openssl_reads_the_public_key(tmp_path: Path) -> None:
    KEY.save(tmp_path)
    command = ["openssl", "pkey", "-pubin", "-in", str(tmp_path / "signing.pub"), "-noout", "-text"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ED25519" in done.stdout.upper()
