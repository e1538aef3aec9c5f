"""Transcripts of conversations, for people who want to see why one failed."""

from collections.abc import Sequence
from pathlib import Path

from subterra.compile.metrics import node_right
from subterra.compile.rollout import Conversation
from subterra.runtime.files import write_text


def write_transcripts(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write the conversations as text, wrong turns marked with `!`.

    Raises:
        ResourceError: the file cannot be written.
    """
    write_text(path, "\n".join(map(transcript, conversations)) or "no failures\n")


def transcript(conversation: Conversation) -> str:
    """Render one conversation."""
    scenario = conversation.scenario
    facts = ", ".join(f"{name}={value}" for name, value in scenario.slots.items())
    lines = [f"scenario: {' > '.join(scenario.path)} ({facts})"]
    for exchange in conversation.exchanges:
        if exchange.utterance is not None:
            lines.append(f"  user   {exchange.utterance.text}    [{exchange.utterance.key}]")
        mark = " " if node_right(exchange) else "!"
        lines.append(f"{mark} agent  {exchange.raw.replace(chr(10), '  //  ')}")
        if not node_right(exchange):
            lines.append(f"         should be at: {exchange.gold.state.node}")
    lines.append(f"  ended at: {conversation.ended_at}, should end at: {scenario.path[-1]}")
    return "\n".join(lines) + "\n"
