r"""What a teacher is asked for, and how its list is read.

Goes in: an intent of a procedure, some of the author's wordings, a voice, a number. Comes out: a
request; and from a reply its items. Shows the teacher what the intent means, what the agent asks
where it may be said, and what the user might mean instead; no facts and no flowchart.

    >>> list_items("1. no sound\n2. nobody hears me")
    ['no sound', 'nobody hears me']
"""

import re
from collections.abc import Sequence

from subterra.compile.intent_places import about, questions, rivals
from subterra.compile.procedure import Procedure
from subterra.compile.wording import placeholders

VOICES = {
    "terse": "a few words, no politeness, often no verb",
    "chatty": "friendly and wordy, with some context of their life around it",
    "annoyed": "impatient, in the middle of something, not insulting",
    "non-native": "simple words and the grammar of somebody who learnt the language late",
    "typo-ridden": "typed in haste on a phone: letters swapped or missing, no capitals",
    "elderly": "polite and roundabout, unsure of technical words",
    "technical": "knows the terms and uses them exactly",
}
"""Voice -> what it sounds like; requests go round them."""
MAX_WORDS = 30
"""Asked for; the filter is more patient."""

SYSTEM = (
    "You write messages that users of a support assistant might type. You answer with a numbered"
    " list, one message a line, and with nothing else."
)

_ITEM = re.compile(r"\s*(?:\d{1,3}\s*[.):]|[-*•–]\s)\s*(.*)")
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_WRAPPERS = ('""', "''", "“”", "‘’", "**", "``", "«»")


def request(
    procedure: Procedure,
    intent: str,
    own: Sequence[str],
    samples: Sequence[str],
    voice: str,
    n: int,
) -> str:
    """Ask for `n` new wordings of an intent.

    Args:
        procedure: names the intent, its neighbours and its slots.
        intent: to write for.
        own: all wordings that the author wrote for it; their placeholders are the rule.
        samples: those of them that the teacher sees.
        voice: a key of `VOICES`.
        n: messages to ask for.
    """
    others = [
        about(procedure, name) for name in rivals(procedure, intent, procedure.intent_names())
    ]
    parts = [
        f"The assistant: {procedure.title}.",
        f"What the message must mean: {about(procedure, intent)}.",
        _list("What the assistant may just have asked", questions(procedure, intent)),
        _list("Messages with this meaning that others wrote", samples),
        _list("What the message must not mean", others),
        _placeholder_rule(procedure, own),
        f"Voice: {voice}: {VOICES[voice]}.",
        f"Write {n} new messages of at most {MAX_WORDS} words, in the language of the messages"
        f" above, numbered 1 to {n}. Each differs from the others and from those above in its words"
        " and its situation.",
    ]
    return "\n\n".join(part for part in parts if part)


def list_items(text: str, *, cut: bool = False) -> list[str | None]:
    """Read a reply line by line: an item's text, or None for a line that is no item.

    Blank lines are passed by; so is the last line of a reply that was cut.
    """
    lines = [line for line in _THOUGHT.sub("", text).splitlines() if line.strip()]
    found = [_ITEM.fullmatch(line) for line in (lines[:-1] if cut else lines)]
    return [None if item is None else _unwrapped(" ".join(item[1].split())) for item in found]


def _placeholder_rule(procedure: Procedure, own: Sequence[str]) -> str:
    shapes = {placeholders(text) for text in own}
    used = sorted(frozenset[str]().union(*shapes))
    if not used:
        return "Name no product, person, date or number that the messages above do not name."
    meant = {slot.name: slot.about for slot in procedure.slots}
    marks = ", ".join(f"{{{name}}} ({meant.get(name, name)})" for name in used)
    must = "must" if frozenset() not in shapes else "may"
    return (
        f"A message {must} hold a placeholder with its braces, as the messages above do: {marks}."
        " Never write a value in its place."
    )


def _list(title: str, texts: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {text}" for text in texts)]) if texts else ""


def _unwrapped(text: str) -> str:
    for pair in _WRAPPERS:
        if len(text) > 1 and text[0] == pair[0] and text[-1] == pair[1]:
            return _unwrapped(text[1:-1].strip())
    return text
