"""Scenarios and the users who live them.

A `Scenario` is one path with slot values and a temper; a `User` speaks it turn by turn, answering
the node that the agent is really at. The same user writes the training dialogues (against the
policy) and the scoring conversations (against a model), so the two meet the same situations.

Goes in: a procedure, a user bank, acyclic paths, a wording source. Comes out: utterances with their
meaning. Does not know what the agent is made of.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from subterra.compile.policy import Message, State, move
from subterra.compile.procedure import Node, Procedure, Slot
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import WordingSource, placeholders, vary

MAX_CORRECTIONS = 2
"""Times a user takes the trouble to correct an agent that misheard."""


@dataclass(frozen=True, slots=True)
class Temper:
    """Probabilities of what makes a conversation leave the straight way."""

    aside: float = 0.15
    """An aside, per user turn."""
    false_start: float = 0.15
    """A slot is first told wrongly and corrected later, per conversation."""
    detour: float = 0.4
    """Facts are told piece by piece where they could be told at once, per user turn."""
    fresh: float = 0.0
    """The value of an open slot is one that no bank holds, per slot: it teaches copying."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One path, the true slot values, and the value that is told wrongly at first, if any."""

    path: tuple[str, ...]
    slots: Mapping[str, str]
    wrong: tuple[str, str] | None
    temper: Temper


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the user typed and what it means."""

    text: str
    message: Message
    key: str
    """The user bank's key, such as `fixed+small_talk`."""


def scenarios(
    procedure: Procedure,
    bank: UserBank,
    paths: Sequence[tuple[str, ...]],
    rng: random.Random,
    temper: Temper = Temper(),
) -> Iterator[Scenario]:
    """Yield scenarios without end: every path once in each round, in shuffled order."""
    values = {slot.name: _values(slot, procedure, bank) for slot in procedure.slots}
    correctable = [name for name in values if _can_be_corrected(name, procedure, bank)]
    correctable = [name for name in correctable if len(values[name]) > 1]
    while paths:
        for path in rng.sample(list(paths), len(paths)):
            slots = _slots_on(procedure, path, values, temper.fresh, rng)
            wrong = None
            if rng.random() < temper.false_start and correctable:
                name = rng.choice(correctable)
                others = [value for value in values[name] if value != slots[name]]
                wrong = (name, rng.choice(others))
            yield Scenario(path, slots, wrong, temper)


def _values(slot: Slot, procedure: Procedure, bank: UserBank) -> tuple[str, ...]:
    """List the values a user may have; an open slot's are those that the bank has phrases for."""
    implied = [value for i in procedure.intents for name, value in i.sets if name == slot.name]
    return slot.values or tuple(dict.fromkeys([*bank.slots.get(slot.name, ()), *implied]))


def _can_be_corrected(slot: str, procedure: Procedure, bank: UserBank) -> bool:
    texts = [text for intent in procedure.corrections for text in bank.wordings(intent.name)]
    return any(placeholders(text) == {slot} for text in texts)


def _slots_on(
    procedure: Procedure,
    path: Sequence[str],
    values: Mapping[str, Sequence[str]],
    fresh: float,
    rng: random.Random,
) -> dict[str, str]:
    slots = {name: rng.choice(known) for name, known in values.items()}
    implied = {name for intent in procedure.intents for name, _ in intent.sets}
    for slot in procedure.slots:
        if not slot.values and slot.name not in implied and rng.random() < fresh:
            slots[slot.name] = vary(slots[slot.name], rng)
    for hub in procedure.of_kind("hub"):
        for edge in hub.edges:
            if edge.to in path and procedure.node(edge.to).kind == "agent":
                slots.update({name: value for name, value in edge.when.slots if value is not None})
    return slots


class User:
    """A user with a scenario, who remembers what was told and how far things went."""

    def __init__(
        self, procedure: Procedure, source: WordingSource, scenario: Scenario, rng: random.Random
    ) -> None:
        self._procedure = procedure
        self._source = source
        self._scenario = scenario
        self._rng = rng
        self._position = 0
        self._pending = scenario.wrong
        self._corrections = 0
        self._chatted = False
        self.told: dict[str, str | None] = dict.fromkeys(procedure.slot_names)

    def say(self, node: str, flags: frozenset[str], heard: Mapping[str, str | None]) -> Utterance:
        """Answer the node that the agent is at.

        Args:
            node: the agent's node.
            flags: the flags that are set by now.
            heard: the slot values that the agent shows to have understood.
        """
        if node in self._scenario.path:
            self._position = max(self._position, self._scenario.path.index(node))
        utterance = (
            self._aside(node)
            or self._correct(heard)
            or self._progress(State(node, self.told, flags))
        )
        self._chatted = all(
            name in {a.name for a in self._procedure.asides} for name in utterance.message.intents
        )
        intended = {i.name: i for i in self._procedure.intents}
        for name in utterance.message.intents:
            self.told.update(intended[name].sets if name in intended else ())
        self.told.update(utterance.message.slots)
        return utterance

    def _aside(self, node: str) -> Utterance | None:
        has_step = bool(self._procedure.node(node).facts)
        asides = [
            aside
            for aside in self._procedure.asides
            if (has_step or not aside.repeats) and frozenset() in self._source.shapes(aside.name)
        ]
        if self._chatted or not asides or self._rng.random() >= self._scenario.temper.aside:
            return None
        return self._utter(self._rng.choice(asides).name, {})

    def _correct(self, heard: Mapping[str, str | None]) -> Utterance | None:
        if self._pending and self.told[self._pending[0]] == self._pending[1]:
            name = self._pending[0]
            self._pending = None
            return self._correction(name, self._scenario.slots[name])
        for name, value in self.told.items():
            misheard = value is not None and heard.get(name) not in (None, value)
            if misheard and self._corrections < MAX_CORRECTIONS and value is not None:
                self._corrections += 1
                return self._correction(name, value)
        return None

    def _correction(self, slot: str, value: str) -> Utterance | None:
        for intent in self._procedure.corrections:
            if frozenset({slot}) in self._source.shapes(intent.name):
                return self._utter(intent.name, {slot: value})
        return None

    def _progress(self, state: State) -> Utterance:
        options = list(self._options(state))
        wanted = self._scenario.path[min(self._position + 1, len(self._scenario.path) - 1)]
        direct = [o for o in options if o[2] == wanted]
        stray = self._pending is not None and not direct
        pieces = [o for o in options if o[3] and o[2] != wanted and (stray or self._asks(o[2]))]
        later = [o for o in options if o[2] in self._scenario.path[self._position + 1 :]]
        if direct and pieces and self._rng.random() < self._scenario.temper.detour:
            chosen = pieces
        else:
            chosen = direct or pieces or later or options
        if not chosen:
            return self._repeat(state.node)
        keys = sorted({option[0] for option in chosen})
        key = self._rng.choice(keys)
        option = self._rng.choice([o for o in chosen if o[0] == key])
        return self._utter(option[0], option[1])

    def _asks(self, node: str) -> bool:
        return bool(self._procedure.node(node).asks)

    def _options(self, state: State) -> Iterator[tuple[str, dict[str, str], str, bool]]:
        """Yield (bank key, slots named, node it leads to, whether it tells something new)."""
        hub = self._procedure.node(self._procedure.node(state.node).next or state.node)
        believed = dict(self._scenario.slots)
        if self._pending:
            believed[self._pending[0]] = self._pending[1]
        for key in self._keys_at(hub):
            for shape in self._source.shapes(key):
                if any(self.told.get(name) is not None for name in shape):
                    continue
                slots = self._named(shape, believed)
                message = self._message(key, slots)
                implied = self._implied(message)
                if any(believed.get(n) != v or self.told.get(n) == v for n, v in implied.items()):
                    continue
                target = move(self._procedure, state, message).state.node
                yield key, slots, target, bool(implied or slots)

    def _keys_at(self, hub: Node) -> list[str]:
        asides = {item.name for item in self._procedure.asides}
        known = {name for edge in hub.edges for name in edge.intents}
        known -= {item.name for item in self._procedure.corrections}
        if not known:  # the hub decides on slots alone
            known = {intent.name for intent in self._procedure.intents}
        return [
            key
            for key in self._source.keys()  # noqa: SIM118 - no mapping
            if (parts := set(key.split("+")) - asides) and parts <= known
        ]

    def _implied(self, message: Message) -> dict[str, str]:
        implied: dict[str, str] = {}
        for intent in self._procedure.intents:
            if intent.name in message.intents:
                implied.update(intent.sets)
        return implied

    def _repeat(self, node: str) -> Utterance:
        """Say again what fits the hub: the agent asks for what it was told already."""
        hub = self._procedure.node(self._procedure.node(node).next or node)
        true = {n: self._scenario.slots[n] if v is None else v for n, v in self.told.items()}
        said = [
            (key, self._named(shape, true))
            for key in self._keys_at(hub) or self._source.keys()
            for shape in self._source.shapes(key)
        ]
        fitting = [
            (key, slots)
            for key, slots in said
            if self._implied(self._message(key, slots)).items() <= true.items()
        ]
        return self._utter(*self._rng.choice(fitting or said))

    def _named(self, shape: frozenset[str], values: Mapping[str, str]) -> dict[str, str]:
        return {name: values[name] for name in self._procedure.slot_names if name in shape}

    def _utter(self, key: str, slots: dict[str, str]) -> Utterance:
        return Utterance(self._source.text(key, slots), self._message(key, slots), key)

    def _message(self, key: str, slots: Mapping[str, str]) -> Message:
        names = [*key.split("+")]
        known = {intent.name for intent in self._procedure.intents}
        corrections = {intent.name for intent in self._procedure.corrections}
        if not corrections & set(names):
            names += [f"give_{slot}" for slot in slots if f"give_{slot}" in known]
        return Message(tuple(dict.fromkeys(names)), dict(slots))
