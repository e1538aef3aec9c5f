"""The Textual application around one chat screen: themes, palette, clean exit.

Goes in: an opened `Agent`, locked down already. Comes out: nothing but the conversation. Style
sheets are read when this module is imported, so that the screen opens no file under the guard.

    >>> run_app(agent)
"""

import asyncio
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from subterra.tui.agent import Agent
from subterra.tui.chat_screen import ChatScreen
from subterra.tui.help_screen import key_name
from subterra.tui.theme import DARK, LIGHT, THEMES

STYLES = "\n".join(
    sheet.read_text(encoding="utf-8") for sheet in sorted(Path(__file__).parent.glob("*.tcss"))
)


class ChatApp(App[None]):
    """Chat with one agent."""

    TITLE = "subterra"
    CSS = STYLES
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = True

    def __init__(self, agent: Agent, *, show_state: bool = False) -> None:
        super().__init__()
        self.agent = agent
        self._show_state = show_state
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        """Start with the chat."""
        return ChatScreen(self.agent, show_state=self._show_state)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key's action by name; the palette searches titles, so they say it all."""
        if isinstance(screen, ChatScreen):
            for binding in ChatScreen.BINDINGS:
                if isinstance(binding, Binding) and binding.show:
                    title = f"{binding.description}: {binding.tooltip}"
                    action = partial(screen.run_action, binding.action)
                    yield SystemCommand(title, key_name(binding.key), action)
        yield SystemCommand("Light or dark: switch the theme", "", self.action_light)
        yield SystemCommand("Theme: choose any", "", self.action_change_theme)
        yield SystemCommand("Quit: leave the chat", "Ctrl+Q", self.action_quit)

    def action_light(self) -> None:
        """Switch between the light and the dark theme."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    async def action_quit(self) -> None:
        """Stop the reply, so that its thread ends, and leave."""
        self.leave()

    def leave(self) -> None:
        """Leave, also on a signal."""
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                screen.give_up()
        self.exit()


def run_app(agent: Agent, *, show_state: bool = False) -> None:
    """Run the chat until the user quits; the terminal is restored on SIGTERM too."""
    app = ChatApp(agent, show_state=show_state)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.leave)
        runner.run(app.run_async())
