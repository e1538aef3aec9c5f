"""The one place where the chat meets the runtime: a sealed agent, opened and locked down.

Goes in: a bundle folder and the user's choices. Comes out: an `Agent` that streams events. Widgets
and plain mode know only the protocol, so a test drives them with a few lines of fake.
"""

import importlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

from subterra.runtime import session as session_events
from subterra.runtime.bundle import open_bundle
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import BACKENDS, open_engine
from subterra.runtime.errors import UsageError
from subterra.runtime.guard import lock_down
from subterra.runtime.session import Session
from subterra.runtime.signing import load_verify_key
from subterra.runtime.state_line import StateLine
from subterra.tui.events import Done, Event, Piece, State
from subterra.tui.seal import Seal

UNSIGNED = "This agent is not signed: anybody may have changed it."

GuardMode = Literal["required", "best-effort", "off"]


class Agent(Protocol):
    """A conversation partner; one caller at a time, except for `cancel`."""

    @property
    def title(self) -> str:
        """Name for people."""

    @property
    def variant(self) -> str:
        """Variant that is loaded."""

    @property
    def seal(self) -> Seal:
        """What the guard holds."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before the first word."""

    @property
    def export_folder(self) -> Path | None:
        """The folder that the guard left writable."""

    def open(self) -> Iterator[Event]:
        """Stream the agent's opening turn."""

    def say(self, text: str) -> Iterator[Event]:
        """Stream the reply to what the user wrote."""

    def cancel(self) -> None:
        """Stop the reply in progress; safe from any thread and from a signal handler."""

    def reset(self) -> None:
        """Forget the conversation."""


class SealedAgent:
    """The real agent: a session over an engine, in a process that is locked down."""

    def __init__(
        self,
        session: Session,
        *,
        title: str,
        variant: str,
        seal: Seal,
        warnings: tuple[str, ...] = (),
        terminals: Collection[str] = (),
        export_folder: Path | None = None,
    ) -> None:
        self.title = title
        self.variant = variant
        self.seal = seal
        self.warnings = warnings
        self.export_folder = export_folder
        self._session = session
        self._terminals = frozenset(terminals)
        self._node = ""
        self._spoken = False

    def open(self) -> Iterator[Event]:
        """Stream the agent's opening turn."""
        return self._translate(self._session.open())

    def say(self, text: str) -> Iterator[Event]:
        """Stream the reply.

        Raises:
            UsageError: the opening was stopped before it began, or the message is too long.
        """
        if not self._spoken:
            raise UsageError(
                "the agent was stopped before it opened the conversation",
                hint="start a new one: Ctrl+R, or /new in plain mode",
            )
        return self._translate(self._session.say(text))

    def cancel(self) -> None:
        """Stop the reply in progress."""
        self._session.cancel()

    def reset(self) -> None:
        """Forget the conversation."""
        self._session.reset()
        self._node, self._spoken = "", False

    def _translate(self, events: Iterator[session_events.Event]) -> Iterator[Event]:
        for event in events:
            match event:
                case session_events.StateShown(line=line, text=text):
                    self._node, self._spoken = (line.node if line else ""), True
                    yield _state(line, text)
                case session_events.TextDelta(text=text):
                    self._spoken = True
                    yield Piece(text)
                case session_events.Done(stats=stats):
                    ended = self._node in self._terminals and not stats.cancelled
                    yield _done(stats, ended=ended)


@contextmanager
def open_agent(
    path: Path,
    *,
    variant: str | None = None,
    guard: GuardMode = "required",
    key: Path | None = None,
    allow_unsigned: bool = False,
    export_folder: Path | None = None,
    constrained: bool = True,
) -> Iterator[SealedAgent]:
    """Verify a bundle, lock this process down, then load the model; free it at the end.

    The lock-down cannot be undone: afterwards this process can only talk and end. An agent that
    carries its legal transitions is held to them, unless `constrained` is false.

    Raises:
        BundleError: the bundle is not what its author sealed, or has no such variant.
        GuardError: a layer is missing, or the export folder does not exist.
        MissingExtraError: the variant's engine is not installed.
        EngineError: the engine refuses the model.
    """
    bundle = open_bundle(
        path, key=load_verify_key(key) if key else None, allow_unsigned=allow_unsigned
    )
    manifest, chosen = bundle.manifest, bundle.variant(variant)
    with suppress(ModuleNotFoundError):  # open_engine says how to install it
        importlib.import_module(BACKENDS[chosen.engine][0])
    folder = export_folder.absolute() if export_folder else None
    seal = _lock_down(bundle.path, folder, guard)
    tokenizer = ChatTokenizer(bundle.tokenizer, ChatFormat(system=manifest.system))
    engine = open_engine(
        chosen.engine, bundle.path / chosen.path, context_tokens=manifest.context_tokens
    )
    try:
        session = Session(
            engine,
            tokenizer,
            tokenizer.chat,
            recipe=manifest.recipe,
            slot_names=manifest.slots,
            max_reply_tokens=manifest.max_reply_tokens,
            table=bundle.table if constrained else None,
        )
        yield SealedAgent(
            session,
            title=manifest.title or manifest.name,
            variant=chosen.name,
            seal=seal,
            warnings=() if bundle.signer else (UNSIGNED,),
            terminals=manifest.terminals,
            export_folder=Path.cwd() if folder is None and guard == "off" else folder,
        )
    finally:
        engine.close()


def _lock_down(bundle: Path, folder: Path | None, mode: GuardMode) -> Seal:
    status = lock_down(read=[bundle], write=[folder] if folder else [], mode=mode)
    if mode == "off":
        return Seal()
    layers = tuple(layer.name for layer in status.layers if layer.in_force)
    missing = tuple(layer.name for layer in status.layers if not layer.in_force)
    if not missing and not status.sealed:
        missing = ("threads that started before",)
    return Seal(layers, missing)


def _state(line: StateLine | None, text: str) -> State:
    if line is None:
        return State(text)
    return State(text, line.node, line.intents, line.slots, line.flags)


def _done(stats: session_events.TurnStats, *, ended: bool) -> Done:
    notices = []
    if stats.truncated_turns:
        notices.append(
            f"The conversation has grown long; the agent has forgotten its first "
            f"{stats.truncated_turns} exchanges."
        )
    if stats.hit_limit and not stats.cancelled:
        notices.append("The reply was cut: it reached the longest length this agent allows.")
    return Done(
        tokens=stats.new_tokens,
        first_token_ms=stats.first_text_ms or None,
        tokens_per_s=stats.tokens_per_s or None,
        cancelled=stats.cancelled,
        ended=ended,
        notices=tuple(notices),
    )
