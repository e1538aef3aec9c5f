"""The conversation that runs while the proof tries the routes.

Goes in: an opened bundle. Comes out: steps, endlessly: tokens and ended turns. The same engine,
tokenizer and session as `subterra chat`. Does not know the routes.

    for step in talk_to_agent(bundle, "Q8_0"): ...
"""

from collections.abc import Iterator
from typing import Final, Literal

from subterra.runtime.bundle import Bundle
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import open_engine
from subterra.runtime.session import Done, Event, Session

SCRIPT: Final = (
    "hi there",
    "something is not working, can you help me?",
    "I have tried that, it is still the same",
    "what should I do next?",
    "no, that did not help either",
    "ok, thank you, bye",
)
"""Fits any support procedure: the replies do not matter here, only that they are computed."""

REPLY_TOKENS: Final = 48
"""Enough to try the routes between the tokens, and few enough for a slow machine."""


def talk_to_agent(bundle: Bundle, variant: str | None = None) -> Iterator[Literal["token", "turn"]]:
    """Load a variant and talk to it for as long as the caller listens.

    Raises:
        BundleError: no such variant.
        ModelError: the engine or the tokenizer refuses its file.
    """
    manifest, chosen = bundle.manifest, bundle.variant(variant)
    engine = open_engine(
        chosen.engine, bundle.variant_path(chosen.name), context_tokens=manifest.context_tokens
    )
    chat = ChatFormat(system=manifest.system)
    session = Session(
        engine,
        ChatTokenizer(bundle.tokenizer, chat),
        chat,
        recipe=manifest.recipe,
        slot_names=manifest.slots,
        max_reply_tokens=min(manifest.max_reply_tokens, REPLY_TOKENS),
        table=bundle.table,
    )
    try:
        while True:
            yield from _steps(session.open())
            for line in SCRIPT:
                yield from _steps(session.say(line))
            session.reset()
    finally:
        engine.close()


def _steps(events: Iterator[Event]) -> Iterator[Literal["token", "turn"]]:
    for event in events:
        yield "turn" if isinstance(event, Done) else "token"
