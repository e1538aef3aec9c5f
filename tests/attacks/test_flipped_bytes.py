"""Abuse: bytes of a sealed agent are changed, anywhere."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.runtime.bundle import open_bundle
from subterra.runtime.errors import BundleError

FILES = ("manifest.json", "signature", "tokenizer.json", "model-Q8_0.gguf", "onnx-int8/model.onnx")


@pytest.mark.parametrize("pinned", [True, False])
@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
    more=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_no_flipped_byte_is_accepted(
    shared_agent: Any,
    pinned: bool,
    name: str,
    place: float,
    flip: int,
    more: list[tuple[float, int]],
) -> None:
    path: Path = shared_agent.path / name
    before = path.read_bytes()
    after = bytearray(before)
    for where, mask in [(place, flip), *more]:
        after[int(where * len(after))] ^= mask
    if bytes(after) == before:
        return
    path.write_bytes(after)
    try:
        with pytest.raises(BundleError):
            open_bundle(shared_agent.path, key=shared_agent.key.public if pinned else None)
    finally:
        path.write_bytes(before)
    assert open_bundle(shared_agent.path).manifest.name == "toy"


@pytest.mark.parametrize("name", ["manifest.json", "signature"])
def test_every_single_byte_of_manifest_and_signature_counts(shared_agent: Any, name: str) -> None:
    path: Path = shared_agent.path / name
    before = path.read_bytes()
    try:
        for place in range(len(before)):
            path.write_bytes(before[:place] + bytes([before[place] ^ 0x20]) + before[place + 1 :])
            with pytest.raises(BundleError):
                open_bundle(shared_agent.path)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\n", lambda _: b""])
def test_truncated_padded_and_empty_files_are_refused(agent: Any, name: str, change: Any) -> None:
    path: Path = agent.path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError):
        open_bundle(agent.path)
