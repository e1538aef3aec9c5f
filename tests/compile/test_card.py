"""Cards of adapter and merged folders."""

import json
from pathlib import Path

import pytest

from subterra.compile.card import CARD_FILE, read_card
from subterra.runtime.errors import AdapterError

BASE = {"id": "tiny", "sha256": "0"}


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps({"base": BASE, "recipe": "traced"}))
    assert read_card(tmp_path) == {"base": BASE, "recipe": "traced"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b"{}", b'{"base": "tiny"}', b'{"base": {"id": "tiny"}}'],
)
def test_a_damaged_card_is_an_adapter_error_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(AdapterError, match=CARD_FILE) as caught:
        read_card(tmp_path)
    assert caught.value.hint


def test_a_missing_card_is_an_adapter_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=CARD_FILE):
        read_card(tmp_path)
