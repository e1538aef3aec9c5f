from textual.app import App, ComposeResult

from subterra.tui.conversation import CURSOR, Conversation, message_body, message_label


class Stage(App[None]):
    """A conversation alone, to show that it needs nothing else."""

    def compose(self) -> ComposeResult:
        yield Conversation(max_messages=10)


async def test_old_messages_are_pruned_and_counted() -> None:
    app = Stage()
    async with app.run_test(size=(40, 12)) as pilot:
        conversation = app.query_one(Conversation)
        for number in range(23):
            conversation.add("user", f"message {number}")
            await pilot.pause()
        messages = conversation.messages
        assert len(messages) <= 10
        assert messages[-1].text == "message 22"
        assert conversation.pruned + len(messages) == 23
        assert app.query_one("#pruned").display


async def test_clearing_brings_the_empty_sentence_back() -> None:
    app = Stage()
    async with app.run_test(size=(40, 12)) as pilot:
        conversation = app.query_one(Conversation)
        await pilot.pause()
        conversation.add("agent", "hello")
        await pilot.pause()
        assert not app.query_one("#empty-state").display
        conversation.clear()
        await pilot.pause()
        assert conversation.messages == []
        assert app.query_one("#empty-state").display


def test_a_label_says_who_and_how_it_ended() -> None:
    assert message_label("user") == "You"
    assert message_label("agent", "stopped") == "Agent (stopped)"


def test_a_reply_in_progress_ends_with_a_block() -> None:
    assert message_body("Click the ", streaming=True) == "Click the" + CURSOR
    assert message_body("Click the ", streaming=False) == "Click the"
