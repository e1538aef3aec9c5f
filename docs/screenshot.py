"""Draw the picture of the chat: a real agent, sealed, and a short conversation.

Goes in: a bundle and the user's lines. Comes out: an SVG without any reference to the network.

    $ python docs/screenshot.py build/zoom_support/zoom_support.agent docs/chat.svg
"""

import argparse
import asyncio
import re
import sys
from pathlib import Path

from textual.pilot import Pilot

from subterra.tui.agent import open_agent
from subterra.tui.app import ChatApp
from subterra.tui.chat_screen import ChatScreen
from subterra.tui.composer import Composer
from subterra.tui.theme import DARK, THEMES

LINES = ["hi, nobody can hear me in meetings, i'm on a macbook", "did that, the bar stays flat"]
SIZE = (104, 30)
"""Columns and rows; wide enough to name every layer of the guard."""
FONT_FROM_THE_NETWORK = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)


def main() -> int:
    """Open the agent, hold the conversation, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--line", action="append", help="a line of the user, in order")
    parser.add_argument("--variant")
    parser.add_argument("--theme", choices=[theme.name for theme in THEMES], default=DARK.name)
    parser.add_argument("--allow-unsigned", action="store_true")
    args = parser.parse_args()
    folder = args.out.absolute().parent
    with open_agent(
        args.bundle,
        variant=args.variant,
        allow_unsigned=args.allow_unsigned,
        export_folder=folder,
    ) as agent:
        app = ChatApp(agent, show_state=True)
        svg = asyncio.run(picture(app, args.line or LINES, args.theme))
        (folder / args.out.name).write_text(svg, encoding="utf-8")
    print(f"wrote {args.out}", file=sys.stderr)
    return 0


async def picture(app: ChatApp, lines: list[str], theme: str) -> str:
    """Play the lines in a screen of 104 x 30 and draw it."""
    async with app.run_test(size=SIZE) as pilot:
        app.theme = theme
        await _silence(pilot, app)
        for line in lines:
            app.screen.query_one(Composer).insert(line)
            await pilot.press("enter")
            await _silence(pilot, app)
        await pilot.pause(0.5)
        return FONT_FROM_THE_NETWORK.sub("", app.export_screenshot(title="subterra chat"))


async def _silence(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait until the agent has replied."""
    await pilot.pause(0.1)
    while not isinstance(app.screen, ChatScreen) or app.screen.busy:
        await pilot.pause(0.05)


if __name__ == "__main__":
    sys.exit(main())
