"""Pure renderables of the chat, as text."""

import pytest
from textual.binding import Binding
from textual.color import Color
from textual.theme import Theme

from subterra.tui.chat_screen import ChatScreen
from subterra.tui.events import State
from subterra.tui.help_screen import help_text, key_name
from subterra.tui.key_bar import key_line, short_key
from subterra.tui.seal import Seal
from subterra.tui.state_pane import MAX_ROUTE, state_view
from subterra.tui.status_bar import Status, status_line
from subterra.tui.theme import THEMES, contrast

LAYERS = ("descriptors", "shared memory", "privileges", "seccomp", "landlock")
BINDINGS = [binding for binding in ChatScreen.BINDINGS if isinstance(binding, Binding)]


def test_status_leaves_out_what_was_not_measured() -> None:
    assert status_line(Status("Q8_0", Seal(("seccomp",)))).plain == "Q8_0 · sealed: seccomp"


def test_slow_agents_get_a_decimal() -> None:
    line = status_line(Status("Q8_0", tokens_per_s=3.14)).plain
    assert "3.1 tokens/s" in line


def test_a_narrow_status_counts_the_layers_before_it_drops_the_speed() -> None:
    status = Status("Q8_0", Seal(LAYERS), 112.4, 47.2)
    assert status_line(status, 78).plain == "Q8_0 · 112 tokens/s · first 47 ms · sealed: 5 layers"
    assert status_line(status, 30).plain == "Q8_0 · sealed: 5 layers"
    assert status_line(status, 200).plain.endswith("seccomp, landlock")


@pytest.mark.parametrize("width", [30, 78, 200])
def test_a_missing_seal_is_never_dropped(width: int) -> None:
    off = Status("Q8_0", Seal(), 112.4, 47.2, activity="replying")
    assert "NOT SEALED: guard off" in status_line(off, width).plain
    partly = Status("Q8_0", Seal(("seccomp",), ("landlock",)), 112.4, 47.2)
    assert "PARTLY SEALED: without landlock" in status_line(partly, width).plain


def test_the_state_view_shows_node_intents_slots_flags_and_route() -> None:
    state = State(
        "not fixed > deeper | audio | ? | tried",
        "deeper",
        ("not_fixed",),
        (("issue", "audio"), ("device", None)),
        ("tried",),
    )
    text = state_view(state, ("welcome", "fix_audio", "deeper")).plain
    assert "node\n  deeper" in text
    assert "heard\n  not fixed" in text
    assert "issue\n  audio" in text
    assert "device\n  not known" in text
    assert "flags\n  tried" in text
    assert "○ welcome\n  ○ fix audio\n  ● deeper" in text


def test_a_malformed_state_line_is_shown_as_it_is() -> None:
    text = state_view(State("not fixed deeper [red]|")).plain
    assert "cannot be read" in text
    assert "not fixed deeper [red]|" in text


def test_a_long_route_shows_its_end() -> None:
    route = tuple(f"node_{number}" for number in range(40))
    text = state_view(State("x > y", "y", ("x",)), route).plain
    assert "node 39" in text
    assert "node 0\n" not in text
    assert text.count("node ") == MAX_ROUTE


def test_keys_are_written_as_people_write_them() -> None:
    assert key_name("ctrl+r") == "Ctrl+R"
    assert key_name("escape") == "Esc"
    assert short_key("ctrl+r") == "^R"
    assert short_key("f1") == "F1"


def test_the_key_line_fits_80_columns() -> None:
    assert key_line(BINDINGS).cell_length <= 78


def test_help_names_every_key_and_the_seal() -> None:
    text = help_text(BINDINGS, Seal(LAYERS)).plain
    for binding in BINDINGS:
        if binding.show:
            assert key_name(binding.key) in text
    assert "Ctrl+Q" in text
    assert "sealed: descriptors, shared memory" in text


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_text_colour_can_be_read_on_every_ground(theme: Theme) -> None:
    texts = [
        theme.foreground,
        theme.primary,
        theme.secondary,
        theme.accent,
        theme.success,
        theme.error,
        theme.variables["quiet"],
    ]
    for ground in (theme.background, theme.surface, theme.panel):
        for text in texts:
            ratio = contrast(Color.parse(text or ""), Color.parse(ground or ""))
            assert ratio >= 4.5, f"{text} on {ground}: {ratio:.1f}"


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_warning_of_a_missing_seal_can_be_read(theme: Theme) -> None:
    ratio = contrast(Color.parse(theme.background or ""), Color.parse(theme.warning or ""))
    assert ratio >= 4.5
