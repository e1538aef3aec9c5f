from tests.tui.conftest import FakeAgent, opened, screen_text, spoken, wait_for
from textual import events

from subterra.tui.app import ChatApp
from subterra.tui.composer import MAX_CHARACTERS, Composer


async def test_a_paste_of_several_lines_is_not_sent() -> None:
    agent = FakeAgent()
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        composer = screen.query_one(Composer)
        composer.post_message(events.Paste("first\r\nsecond\x1b[201~\n"))
        await wait_for(pilot, lambda: "second" in composer.text)
        assert agent.heard == []
        await pilot.press("enter")
        await spoken(pilot, screen, "I see.")
        assert agent.heard == ["first\nsecond"]


async def test_ctrl_j_starts_a_new_line() -> None:
    agent = FakeAgent()
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("a", "ctrl+j", "b")
        assert screen.query_one(Composer).text == "a\nb"
        assert agent.heard == []


async def test_keys_typed_behind_enter_belong_to_the_next_message() -> None:
    agent = FakeAgent()
    async with ChatApp(agent).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("a", "enter", "b")
        await spoken(pilot, screen, "I see.")
        assert agent.heard == ["a"]
        assert screen.query_one(Composer).text == "b"


async def test_a_message_has_a_longest_length() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        screen = await opened(pilot)
        composer = screen.query_one(Composer)
        composer.post_message(events.Paste("x" * (MAX_CHARACTERS + 50)))
        await wait_for(pilot, lambda: len(composer.text) == MAX_CHARACTERS)
        await wait_for(pilot, lambda: f"at most {MAX_CHARACTERS}" in screen_text(app))


async def test_ctrl_c_with_nothing_selected_says_how_to_quit() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+c")
        await wait_for(pilot, lambda: "quit" in screen_text(app).replace("^Q Quit", ""))


async def test_ctrl_c_copies_what_is_selected() -> None:
    app = ChatApp(FakeAgent())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("a", "b")
        screen.query_one(Composer).select_all()
        await pilot.press("ctrl+c")
        assert app.clipboard == "ab"
