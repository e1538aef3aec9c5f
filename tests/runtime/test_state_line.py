"""The state line survives a round trip, and no model output makes the parser raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra.runtime import state_line
from subterra.runtime.errors import InputError
from subterra.runtime.state_line import StateLine

SLOTS = ("issue", "device")

words = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
names = st.lists(words, min_size=1, max_size=3).map("_".join)
values = st.none() | st.text(min_size=1, max_size=20).filter(
    lambda v: v == v.strip() and v != "?" and "|" not in v and v.isprintable()
)
lines = st.builds(
    StateLine,
    intents=st.lists(names, min_size=1, max_size=3).map(tuple),
    node=names,
    slots=st.tuples(values, values).map(lambda pair: tuple(zip(SLOTS, pair, strict=True))),
    flags=st.lists(names, max_size=2).map(tuple),
)


@given(lines)
def test_a_formatted_line_parses_back_to_itself(line: StateLine) -> None:
    assert state_line.parse(state_line.format(line, SLOTS), SLOTS) == line


@given(st.text() | st.lists(st.sampled_from(["a", " > ", "|", " + ", "?", "\n"])).map("".join))
def test_whatever_a_model_writes_parses_or_is_none_and_stays_writable(text: str) -> None:
    line = state_line.parse(text, SLOTS)
    if line is not None:
        assert state_line.parse(state_line.format(line, SLOTS), SLOTS) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "start > welcome | ? | ?",
            StateLine(("start",), "welcome", (("issue", None), ("device", None))),
        ),
        (
            "report audio + give device > fix audio | audio | Windows | tried",
            StateLine(
                ("report_audio", "give_device"),
                "fix_audio",
                (("issue", "audio"), ("device", "Windows")),
                ("tried",),
            ),
        ),
    ],
)
def test_the_documented_lines_parse(text: str, expected: StateLine) -> None:
    assert state_line.parse(text, SLOTS) == expected
    assert state_line.format(expected, SLOTS) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "welcome",
        "start > welcome",
        "start > welcome | audio",
        "start > | ? | ?",
        " > a | ? | ?",
        "start > welcome | ? |",
        "start > welcome | ? | ? | ",
        "a > b > c | ? | ?",
        "Hello, how can I help?",
    ],
)
def test_a_malformed_line_gives_none(text: str) -> None:
    assert state_line.parse(text, SLOTS) is None


@pytest.mark.parametrize(
    "line",
    [
        StateLine((), "welcome"),
        StateLine(("a b",), "welcome"),
        StateLine(("a",), "_welcome"),
        StateLine(("a",), "welcome", (("issue", "a|b"),)),
        StateLine(("a",), "welcome", (("issue", "?"),)),
        StateLine(("a",), "welcome", (("issue", "two\nlines"),)),
        StateLine(("a",), "welcome", (("colour", "red"),)),
    ],
)
def test_what_could_not_be_read_back_is_refused(line: StateLine) -> None:
    with pytest.raises(InputError) as caught:
        state_line.format(line, SLOTS)
    assert caught.value.hint
