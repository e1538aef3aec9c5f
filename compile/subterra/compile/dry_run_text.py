"""A dry run's document as lines for people.

Goes in: the document of `subterra compile --dry-run`. Comes out: lines.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from subterra.compile.training_text import CLOSE, OPEN, marked

WORDINGS_SHOWN = 12
"""Intents listed, those with the fewest wordings first."""

Document = Mapping[str, Any]


def document_lines(document: Document) -> Iterator[str]:
    """Yield the lines."""
    yield f"training text, learnt where marked: {_legend(document['learnt'])}"
    for number, dialogue in enumerate(document["dialogues"], 1):
        yield ""
        yield f"--- dialogue {number}, {dialogue['tokens']} tokens"
        yield marked((span["kind"], span["text"]) for span in dialogue["spans"]).rstrip("\n")
    yield from _length_lines(document)
    yield from _edge_lines(document)
    yield from _wording_lines(document["wordings"])
    yield from _time_lines(document)


def _legend(learnt: Mapping[str, Mapping[str, float]]) -> str:
    parts = []
    for kind, how in learnt.items():
        share = "" if how["share"] == 1 else f", {100 * how['share']:.0f} % of the tokens, drawn"
        parts.append(f"{OPEN}{kind}:...{CLOSE} weight {how['weight']:g}{share}")
    return "  ".join(parts)


def _length_lines(document: Document) -> Iterator[str]:
    lengths = "  ".join(f"{name} {count}" for name, count in document["dialogue_tokens"].items())
    yield ""
    yield f"tokens a dialogue ({document['counted_dialogues']} counted): {lengths}"
    if document["beyond_context"]:
        yield (
            f"  warning: {document['beyond_context']} are longer than the context of"
            f" {document['context_tokens']} tokens"
        )


def _edge_lines(document: Document) -> Iterator[str]:
    edges, missing = document["edges"], document["never_taken"]
    yield ""
    yield (
        f"edges taken by {document['planned_dialogues']} dialogues:"
        f" {len(edges) - len(missing)} of {len(edges)}"
    )
    for edge in edges:
        yield f"  {edge['taken']:>7}  {edge['from']} -> {edge['to']} ({edge['condition']})"
    yield f"never taken: {'; '.join(missing) or 'none'}"


def _wording_lines(wordings: Mapping[str, int]) -> Iterator[str]:
    shown = list(wordings.items())[:WORDINGS_SHOWN]
    rest = len(wordings) - len(shown)
    more = f", and {rest} more with at least {shown[-1][1]}" if rest else ""
    yield ""
    listed = ", ".join(f"{name} {count}" for name, count in shown)
    yield f"wordings by intent, fewest first: {listed}{more}"


def _time_lines(document: Document) -> Iterator[str]:
    kinds = ", ".join(f"{name} {count:,}" for name, count in document["tokens_by_kind"].items())
    exact = document["counted_dialogues"] == document["planned_dialogues"]
    about = "" if exact else "about "
    yield ""
    yield f"{about}{document['tokens']:,} tokens in {document['steps']} steps ({kinds})"
    yield (
        f"about {_clock(document['seconds'])} at {document['tokens_per_second']:g} tokens/s"
        f" ({document['rate_source']}), loading and validation apart"
    )


def _clock(seconds: int) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds} s"
