"""Abuse: the author is hostile; the manifest is properly signed and means harm."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.runtime.bundle import open_bundle
from subterra.runtime.errors import BundleError
from subterra.runtime.manifest import Manifest, check_names, parse_manifest

HOSTILE_NAMES = (
    "../evil", "a/../../evil", "/etc/passwd", "./a", "a//b", "a/", "", "..", "a\\b", "C:evil",
    "a\0b", "a\nb", "manifest.json", "Signature", "MANIFEST.JSON", "a /b", "a.", "e\u0301",
    "\u202egnp.exe", "x" * 300, "/".join("abcdefghij"), "model-q8_0.GGUF", "ONNX-int8/other",
    "onnx-int8", "tokenizer.json/inside",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_an_unsafe_or_colliding_name_is_refused(agent: Any, name: str) -> None:
    manifest = agent.manifest()
    manifest["files"][name] = "0" * 64
    agent.reseal(manifest)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(agent.path)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("schema_version", 2, "schema_version"),
        ("surprise", 1, "surprise"),
        ("recipe", "fireact", "recipe"),
        ("name", "../up", "name"),
        ("system", "two\nlines", "system"),
        ("base", {"id": "x"}, "base.sha256"),
        ("commitment", {"algorithm": "sha256", "value": "0" * 64}, "commitment.algorithm"),
        ("variants", [], "variants"),
        ("default_variant", "Q2_K", "default_variant"),
        ("chat_format", "{% for x in y %}", "chat_format"),
        ("end_of_turn_id", -1, "end_of_turn_id"),
        ("end_of_turn_id", "2", "end_of_turn_id"),
        ("context_tokens", 10**12, "context_tokens"),
        ("context_tokens", 100, "max_reply_tokens"),
        ("tools", [], "tools"),
        ("seeds", {"compile": 1.5}, "seeds.compile"),
        ("files", {}, "tokenizer.json"),
        ("title", None, "title"),
    ],
)
def test_a_wrong_field_is_named(
    change: Callable[..., Any], key: str, value: object, named: str
) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(change(**{key: value}).path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("path", "../model", "no file"),
        ("path", "elsewhere", "no file"),
        ("bytes", 63, "has 64 bytes"),
        ("engine", "torch", "engine"),
        ("name", "onnx-int8", "same name"),
    ],
)
def test_a_wrong_variant_is_refused(agent: Any, field: str, value: object, words: str) -> None:
    manifest = agent.manifest()
    manifest["variants"][0][field] = value
    agent.reseal(manifest)
    with pytest.raises(BundleError, match=words):
        open_bundle(agent.path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name": 1e999999}',
        b'{"name": ' + b"9" * 100_000 + b"}",
        b"{}" + b" " * (1 << 20),
    ],
)
def test_malformed_json_raises_only_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_random_bytes_raise_only_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data)


@settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(sorted(Manifest.model_fields)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_json_in_any_field_is_read_or_refused(
    shared_agent: Any, key: str, value: object
) -> None:
    document = {**shared_agent.manifest(), key: value}
    try:
        manifest = parse_manifest(json.dumps(document).encode())
    except BundleError:
        return
    assert parse_manifest(manifest.to_bytes()) == manifest


@settings(max_examples=300, deadline=None)
@given(name=st.text(alphabet="ab./\\ :\0AB~é\u0301", min_size=1, max_size=12))
def test_an_accepted_name_stays_inside_the_folder(name: str) -> None:
    if not check_names({name: "0" * 64}):
        assert not name.startswith("/")
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert "\\" not in name
