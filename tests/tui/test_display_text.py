from hypothesis import given
from hypothesis import strategies as st

from subterra.tui.display_text import one_line, printable


def test_escape_sequences_are_dropped_whole() -> None:
    assert printable("a\x1b[31mred\x1b[0m b") == "ared b"
    assert printable("a\x1b]52;c;c2VjcmV0\x07b") == "ab"
    assert printable("a\x1b]0;title\x1b\\b") == "ab"
    assert printable("a\x1bPq#0\x1b\\b") == "ab"


def test_newlines_stay_and_tabs_become_spaces() -> None:
    assert printable("a\r\nb\rc\td") == "a\nb\nc    d"


def test_text_cannot_be_turned_around() -> None:
    assert printable("abc\u202edef") == "abcdef"


def test_emoji_and_cjk_stay() -> None:
    assert printable("👩‍💻 音声 é") == "👩‍💻 音声 é"


def test_one_line_folds_white_space() -> None:
    assert one_line(" a\n\n b\tc ") == "a b c"


@given(st.text())
def test_what_is_shown_holds_no_control_but_the_newline(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in shown)
    assert printable(shown) == shown
