"""Roll out conversations between simulated users and a model, many at once.

Goes in: scenarios, a way to answer prompts (`Slots` of an engine), a reader of replies. Comes out:
one `Conversation` each, with the gold move beside every reply. Does not know metrics.

    >>> conversations = rollout(plan, engine.slots(16))
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from subterra.compile.node_reader import NodeReader, Reading
from subterra.compile.policy import Move, State, move, opening
from subterra.compile.procedure import Procedure
from subterra.compile.scenario import Scenario, User, Utterance
from subterra.compile.wording import WordingSource
from subterra.runtime import state_line
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.constrained import ConstrainedChoice, position
from subterra.runtime.engine import Slots
from subterra.runtime.state_line import StateLine
from subterra.runtime.transition_table import TransitionTable

MAX_TURNS = 30
"""Agent turns after which a conversation is given up as lost."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One user message and the agent's reply, with what the procedure prescribes."""

    utterance: Utterance | None
    raw: str
    reading: Reading
    gold: Move


@dataclass(slots=True)
class Conversation:
    """A scenario and what came of it."""

    scenario: Scenario
    exchanges: list[Exchange] = field(default_factory=list)
    ended_at: str | None = None
    """The terminal that was reached."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a rollout needs besides the engine."""

    procedure: Procedure
    scenarios: Sequence[Scenario]
    source: Callable[[int], WordingSource]
    """Wording for the scenario of this index, so that order of arrival changes nothing."""
    tokenizer: ChatTokenizer
    reader: NodeReader
    seed: int
    max_reply_tokens: int = 256
    context_tokens: int = 2048
    table: TransitionTable | None = None
    """Holds state lines to these transitions; None: the model writes what it likes."""


def rollout(
    plan: Plan, slots: Slots, progress: Callable[[int, int], None] = lambda done, all_: None
) -> list[Conversation]:
    """Let every scenario talk to the model; a slot takes the next scenario when it is free.

    The agent opens without having heard anything, so all conversations share one opening turn.
    """
    talks = [_Talk(plan, index) for index in range(len(plan.scenarios))]
    opening_turn = _opening_turn(plan, slots)
    waiting = [talk for talk in reversed(talks) if talk.hear(opening_turn)]
    running: dict[int, _Talk] = {}
    done = len(talks) - len(waiting)
    progress(done, len(talks))
    for slot in range(min(slots.count, len(waiting))):
        running[slot] = waiting.pop()
        _ask(plan, slots, slot, running[slot].tokens, running[slot].line)
    while running:
        for slot, reply in slots.step():
            talk = running[slot]
            if not talk.hear(reply):
                done += 1
                progress(done, len(talks))
                if not waiting:
                    del running[slot]
                    continue
                running[slot] = talk = waiting.pop()
            _ask(plan, slots, slot, talk.tokens, talk.line)
    return [talk.conversation for talk in talks]


def _opening_turn(plan: Plan, slots: Slots) -> list[int]:
    _ask(plan, slots, 0, _prompt(plan), None)
    while not (finished := slots.step()):
        pass
    return finished[0][1]


def _ask(
    plan: Plan, slots: Slots, slot: int, tokens: Sequence[int], line: StateLine | None
) -> None:
    stop = (plan.tokenizer.end_of_turn_id,)
    choose = ConstrainedChoice(plan.table, line, plan.tokenizer) if plan.table else None
    slots.submit(slot, tokens, max_tokens=plan.max_reply_tokens, stop=stop, choose=choose)


def _prompt(plan: Plan) -> list[int]:
    return [*plan.tokenizer.system_turn(), *plan.tokenizer.assistant_prefix()]


class _Talk:
    def __init__(self, plan: Plan, index: int) -> None:
        self._plan = plan
        scenario = plan.scenarios[index]
        self.conversation = Conversation(scenario)
        rng = random.Random(f"{plan.seed}/{index}")
        self._user = User(plan.procedure, plan.source(index), scenario, rng)
        self._flags: frozenset[str] = frozenset()
        self._gold = opening(plan.procedure)
        self._utterance: Utterance | None = None
        self.tokens = _prompt(plan)
        self.line: StateLine | None = None
        """The last legal state line; kept only with a table."""

    def hear(self, reply: Sequence[int]) -> bool:
        """Take the agent's reply and answer it; False when the conversation is over."""
        raw = self._plan.tokenizer.decode(reply)
        reading = self._plan.reader.read(raw)
        if self._plan.table:
            written = state_line.parse(raw.partition("\n")[0], self._plan.procedure.slot_names)
            self.line = position(self._plan.table, self.line, written)
        exchanges = self.conversation.exchanges
        exchanges.append(Exchange(self._utterance, raw, reading, self._gold))
        node = reading.node
        if node is None or len(exchanges) >= MAX_TURNS:
            return False
        if self._plan.procedure.node(node).kind == "terminal":
            self.conversation.ended_at = node
            return False
        return self._answer(node, reading, reply)

    def _answer(self, node: str, reading: Reading, reply: Sequence[int]) -> bool:
        entered = self._plan.procedure.node(node)
        self._flags = flags = (self._flags | set(entered.sets)) - set(entered.clears)
        told = dict(self._user.told)
        heard = reading.slots if reading.slots is not None else told
        self._utterance = self._user.say(node, flags, heard)
        self._gold = move(self._plan.procedure, State(node, told, flags), self._utterance.message)
        tokenizer = self._plan.tokenizer
        self.tokens = [
            *self.tokens,
            *reply,
            *tokenizer.turn_end(),
            *tokenizer.encode_turn("user", self._utterance.text),
            *tokenizer.assistant_prefix(),
        ]
        room = self._plan.context_tokens - self._plan.max_reply_tokens
        return len(self.tokens) < room
