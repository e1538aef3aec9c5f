from typing import cast

import pytest
from rich.color_triplet import ColorTriplet
from tests.tui.conftest import FakeAgent, opened, screen_text, send, spoken, wait_for
from textual.binding import Binding
from textual.screen import Screen

from subterra.tui.app import ChatApp
from subterra.tui.chat_screen import ChatScreen
from subterra.tui.theme import DARK, LIGHT


async def test_every_key_has_a_command_of_the_same_name() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        offered = app.get_system_commands(cast(Screen[object], screen))
        commands = {command.title.partition(":")[0] for command in offered}
    keys = {b.description for b in ChatScreen.BINDINGS if isinstance(b, Binding) and b.show}
    assert keys == {"Stop", "New", "State", "Copy", "Export", "Help"}
    assert keys | {"Quit"} <= commands


async def test_a_command_of_the_palette_does_what_its_key_does() -> None:
    agent = FakeAgent()
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+p")
        await wait_for(pilot, lambda: "Copy: copy the last" in screen_text(app))
        await pilot.press(*"conversation")
        await wait_for(pilot, lambda: "Copy: copy the last" not in screen_text(app))
        await wait_for(pilot, lambda: "New: start a new conversation" in screen_text(app))
        await pilot.press("enter")
        await wait_for(pilot, lambda: agent.resets == 1)


async def test_quitting_stops_the_agent() -> None:
    agent = FakeAgent()
    app = ChatApp(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+q")
    assert agent.cancelled
    assert app.return_code == 0


async def test_the_whole_screen_fits_80_columns_and_24_rows() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await send(pilot, "hello")
        await spoken(pilot, screen, "I see.")
        await wait_for(pilot, lambda: " ▌ I see." in screen_text(app))
        lines = [line.rstrip() for line in screen_text(app).split("\n")]
    assert lines[0].startswith(" Zoom support")
    assert lines[0].endswith("sealed, on this device only")
    assert lines[-7:-4] == [" ▌ Agent", " ▌ I see.", "╭" + "─" * 78 + "╮"]
    assert lines[-2].endswith("sealed: descriptors, landlock, seccomp")
    assert lines[-1] == (
        " Esc Stop  ^R New  ^S State  ^Y Copy  ^E Export  F1 Help  ^Q Quit  ^P Commands"
    )


@pytest.mark.parametrize("size", [(40, 12), (200, 60)])
async def test_other_sizes_show_title_reply_and_composer(size: tuple[int, int]) -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        for part in (" Zoom", "Hello, this is", "Write a message", "Q8_0", "sealed:"):
            await wait_for(pilot, lambda part=part: part in screen_text(app))  # type: ignore[misc]


async def test_light_and_dark_are_one_command_apart() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        assert app.theme == DARK.name
        app.action_light()
        assert app.theme == LIGHT.name
        app.action_light()
        assert app.theme == DARK.name


@pytest.mark.parametrize("no_color", [True, False])
async def test_no_color_leaves_only_greys(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await wait_for(pilot, lambda: " ▌ Hello" in screen_text(app))
        assert colours(app)
        assert all(max(colour) - min(colour) <= 1 for colour in colours(app)) is no_color


def colours(app: ChatApp) -> set[ColorTriplet]:
    """Colours of the text on the screen."""
    return {
        segment.style.color.triplet
        for strip in app.screen._compositor.render_strips(app.size)
        for segment in strip
        if segment.style and segment.style.color and segment.style.color.triplet
    }
