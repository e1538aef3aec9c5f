"""Transcripts of conversations, for people who want to see why one failed."""

from collections.abc import Sequence
from pathlib import Path

from subterra.compile.metrics import node_right
from subterra.compile.rollout import Conversation, Exchange
from subterra.runtime.files import write_text


def write_transcripts(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write the conversations as text, wrong turns marked with `!`.

    Raises:
        ResourceError: the file cannot be written.
    """
    write_text(path, "\n".join(map(transcript, conversations)) or "no failures\n")


def transcript(conversation: Conversation) -> str:
    """Render one conversation."""
    lines = [scenario_line(conversation)]
    for exchange in conversation.exchanges:
        lines += turn_lines(exchange, " " if node_right(exchange) else "!")
        if not node_right(exchange):
            lines.append(f"         should be at: {exchange.gold.state.node}")
    lines.append(end_line(conversation))
    return "\n".join(lines) + "\n"


def scenario_line(conversation: Conversation) -> str:
    """Say what the conversation is about."""
    scenario = conversation.scenario
    facts = ", ".join(f"{name}={value}" for name, value in scenario.slots.items())
    return f"scenario: {' > '.join(scenario.path)} ({facts})"


def turn_lines(exchange: Exchange, mark: str) -> list[str]:
    """Write one exchange; `mark` stands before the agent's reply."""
    said = exchange.utterance
    user = [] if said is None else [f"  user   {said.text}    [{said.key}]"]
    return [*user, f"{mark} agent  {exchange.raw.replace(chr(10), '  //  ')}"]


def end_line(conversation: Conversation) -> str:
    """Say where the conversation ended."""
    return f"  ended at: {conversation.ended_at}, should end at: {conversation.scenario.path[-1]}"
