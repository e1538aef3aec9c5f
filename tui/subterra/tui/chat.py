"""`subterra chat`: talk to a sealed agent in the terminal.

The bundle is verified, the engine opened and the process locked down before the first byte of the
user is read. Without a terminal, or with `--plain` or `--script`, the conversation is linear text.

    $ subterra chat build/zoom_support/zoom_support.agent
    $ echo "nobody hears me" | subterra chat zoom_support.agent
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from subterra.runtime.errors import InputError
from subterra.tui.agent import Agent, open_agent
from subterra.tui.app import run_app
from subterra.tui.display_text import one_line
from subterra.tui.plain import read_lines, talk

SUMMARY = "talk to a sealed agent in the terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra chat`."""
    parser.add_argument("bundle", type=Path, help="the folder NAME.agent")
    parser.add_argument("--variant", metavar="NAME", help="another variant than the default one")
    parser.add_argument("--plain", action="store_true", help="linear text, no full-screen display")
    parser.add_argument(
        "--guard",
        choices=("required", "best-effort", "off"),
        default="required" if sys.platform.startswith("linux") else "best-effort",
        help="the kernel's lock-down (default: %(default)s)",
    )
    parser.add_argument("--key", type=Path, help="the author's public key (signing.pub)")
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a missing signature")
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help="play the user's lines from FILE"
    )
    parser.add_argument("--state", action="store_true", help="show the agent's state lines")
    parser.add_argument(
        "--unconstrained",
        action="store_true",
        help="do not hold the agent to its procedure's transitions",
    )
    parser.add_argument(
        "--export-to", type=Path, metavar="FOLDER", help="leave FOLDER writable for transcripts"
    )


def run(args: argparse.Namespace) -> int:
    """Open the agent, lock down, talk.

    Raises:
        SubterraError: the script, bundle, engine or guard does not allow a conversation.
    """
    with (
        _script(args.script) as script,
        open_agent(
            args.bundle,
            variant=args.variant,
            guard=args.guard,
            key=args.key,
            allow_unsigned=args.allow_unsigned,
            export_folder=args.export_to,
            constrained=not args.unconstrained,
        ) as agent,
    ):
        if script is not None or args.plain or not full_screen_possible():
            code = _talk_plainly(agent, script, states=args.state)
        else:
            run_app(agent, show_state=args.state)
            code = 0
    print(f"next: subterra prove {args.bundle}", file=sys.stderr)
    return code


def full_screen_possible() -> bool:
    """Tell whether there is a terminal to read, and one to draw on (Textual draws on stderr)."""
    streams: tuple[TextIO, ...] = (sys.stdin, sys.stdout, sys.stderr)
    return all(map(_is_terminal, streams)) and os.environ.get("TERM") not in (None, "", "dumb")


def _talk_plainly(agent: Agent, script: TextIO | None, *, states: bool) -> int:
    for line in [f"{agent.title}, {agent.variant}, {agent.seal.full}", *agent.warnings]:
        print(one_line(line), file=sys.stderr)
    source = script or sys.stdin
    at_terminal = _is_terminal(source) and _is_terminal(sys.stdout)
    lines = read_lines(source, sys.stdout, prompt=at_terminal)
    return talk(agent, lines, sys.stdout, echo=not at_terminal, states=states)


@contextmanager
def _script(path: Path | None) -> Iterator[TextIO | None]:
    """Open the script before the guard closes the file system; it is read after.

    Raises:
        InputError: the file is not an ordinary one, is empty, or cannot be opened.
    """
    if path is None:
        yield None
        return
    hint = "write one message of the user on each line of a file"
    try:
        if not (path.is_file() and path.stat().st_size):
            reason = "it is empty" if path.is_file() else "it is not a file"
            raise InputError(f"cannot play {path}: {reason}", hint=hint)
        script = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot play {path}: {error.strerror}", hint=hint) from error
    with script:
        yield script


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
