"""YAML is read by its 1.2 rules, with places, within limits, and fails in our own words only."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.compile.yaml_source import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Document,
    closest,
    parse_yaml,
    read_yaml,
)
from subterra.runtime.errors import ProcedureError, UserBankError

PATH = Path("p.yaml")


def parse(text: str) -> Document:
    return parse_yaml(text, PATH, ProcedureError)


def test_values_follow_yaml_1_2_and_dates_stay_text() -> None:
    text = "a: no\nb: true\nc: ~\nd: 12\ne: 1.5\nf: 2001-01-01\ng: '5'\nh: 0o14\ni:\n"
    assert parse(text).root.plain() == {
        "a": "no", "b": True, "c": None, "d": 12, "e": 1.5,
        "f": "2001-01-01", "g": "5", "h": "0o14", "i": None,
    }  # fmt: skip


def test_places_of_keys_and_values_count_from_one() -> None:
    document = parse("a:\n  - x\n  - b: y\n")
    assert document.position(("a", 1, "b")) == (3, 8)
    assert document.position(("a", 1, "b"), key=True) == (3, 5)
    assert document.position(("a", 1, "gone", "further")) == (3, 5)


def test_an_alias_stands_for_its_anchor() -> None:
    assert parse("a: &x [1]\nb: *x\n").root.plain() == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "1:5: broken YAML: mapping values are not allowed here"),
        ("\ta: 1", "1:1: broken YAML: found character '\\t' that cannot start any token"),
        ("a: 'x", "1:6: broken YAML: found unexpected end of stream"),
        ("a: *y", "1:4: alias '*y' has no finished anchor"),
        ("a: &a [*a]", "1:8: alias '*a' has no finished anchor"),
        ("--- a\n--- b", "2:1: a second document; one file holds one document"),
        ("a: b\nc: \x01", "2:4: broken YAML: unacceptable character"),
    ],
)
def test_broken_yaml_is_refused_with_its_place_and_a_next_step(text: str, words: str) -> None:
    with pytest.raises(ProcedureError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"p.yaml:{words}")
    assert caught.value.hint == "mend the YAML in p.yaml and run the same command again"


def test_tags_double_keys_and_odd_keys_are_gathered_as_problems() -> None:
    document = parse("a: !!python/object:os.system x\na: 2\n[1]: 3\n")
    assert [(p.line, p.column) for p in document.problems] == [(1, 4), (2, 1), (3, 1)]
    assert "the tag 'tag:yaml.org,2002:python/object:os.system'" in document.problems[0].words


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? "])
def test_deep_nesting_is_refused_quickly(opening: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProcedureError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse(opening * 50_000)
    assert time.monotonic() - started < 20


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ProcedureError, match=f"more than {MAX_VALUES} values"):
        parse("\n".join(lines))


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(UserBankError, match="larger than 8 MiB"):
        read_yaml(path, UserBankError, "hint")


@pytest.mark.parametrize("name", ["gone.yaml", "", "a\0b", "x" * 5000])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProcedureError, match="cannot read") as caught:
        read_yaml(tmp_path / name, ProcedureError, "give a file")
    assert caught.value.hint == "give a file"


def test_the_closest_word_is_suggested_regardless_of_case() -> None:
    assert closest("WINDOWS", ["Mac", "Windows"]) == "; did you mean 'Windows'?"
    assert closest("zzz", ["Mac"]) == ""


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_json_is_read_as_json(value: object) -> None:
    assert parse(json.dumps(value)).root.plain() == value


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.sampled_from("ab:-[]{}&*!|>'\"%#,?\n\t <\\x0u@\ufeff\x85\u2028é😀~"), max_size=30)
)
def test_any_text_is_read_or_refused_in_our_own_words(text: str) -> None:
    try:
        document = parse(text)
    except ProcedureError as error:
        message = str(error)
    else:
        document.root.plain()
        message = "p.yaml:read"
    assert message.startswith("p.yaml:")
