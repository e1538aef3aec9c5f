"""A score's document as lines for people.

Goes in: the document that `subterra score --json` prints. Comes out: lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FLIPS_SHOWN = 10
"""Flips of each kind listed for people; the document holds them all."""

Document = Mapping[str, Any]


def document_lines(document: Document) -> Iterator[str]:
    """Yield the lines."""
    held = ", constrained" if document.get("constrained") else ""
    yield (
        f"{document['agent']} {document['variant']}"
        f" ({document['engine']}, {document['recipe']}{held}):"
        f" {document['conversations']} conversations from {document['users']},"
        f" seed {document['seed']}, {document['seconds']} s"
    )
    for name, rate in document.items():
        if isinstance(rate, Mapping) and "n" in rate:
            value = "not measured" if rate["value"] is None else f"{100 * rate['value']:5.1f} %"
            interval = f"[{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
            yield f"  {name.replace('_', ' '):<22}{value}  {interval:<15} n = {rate['n']}"
    if "clusters" in document:
        yield from _cluster_lines(document["clusters"])
    if "against" in document:
        yield from _against_lines(document["against"], document["success"])


def _cluster_lines(clusters: Sequence[Document]) -> Iterator[str]:
    failures = sum(cluster["count"] for cluster in clusters)
    yield ""
    yield f"{failures} failures by node and by what went wrong first" if clusters else "no failures"
    for cluster in clusters:
        said = ", ".join(f"{name} {count}" for name, count in cluster["intents"].items())
        yield f"  {cluster['count']:>4}  {cluster['node']}: {cluster['about']} (said: {said})"
    for cluster in clusters:
        yield ""
        yield f"{cluster['node']}: {cluster['about']}, {cluster['count']}, for example"
        for example in cluster["examples"]:
            yield f"  scenario {example['scenario']}"
            yield from (f"    {line}" for line in example["transcript"])


def _against_lines(against: Document, success: Document) -> Iterator[str]:
    difference = against["difference"]
    bounds = f"[{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    yield ""
    yield (
        f"against {against['agent']} on the same scenarios: success {100 * success['value']:.1f} %"
        f" and {100 * against['success']['value']:.1f} %,"
        f" difference {100 * difference['value']:+.1f} {bounds},"
        f" McNemar exact p = {against['mcnemar_p']:.2g}"
    )
    for kind, words in (("lost", "only the other succeeded"), ("gained", "only this succeeded")):
        flips = against[kind]
        yield f"  {kind} {len(flips)} ({words})"
        for flip in flips[:FLIPS_SHOWN]:
            slots = ", ".join(f"{name}={value}" for name, value in flip["slots"].items())
            yield f"    scenario {flip['scenario']}: {' > '.join(flip['path'])} ({slots})"
        if len(flips) > FLIPS_SHOWN:
            yield f"    ... and {len(flips) - FLIPS_SHOWN} more (--json lists all)"
