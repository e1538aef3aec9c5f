"""The table of legal transitions allows what the policy does, and nothing else."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, islice, permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.compile.conftest import GoldEngine

from subterra.compile.agent_source import AgentSource
from subterra.compile.cut_bound import most_cuts
from subterra.compile.dialogue import gold_turn, state_line
from subterra.compile.node_reader import NodeReader
from subterra.compile.policy import Message, Move, State, move, opening
from subterra.compile.procedure import Aside, Edge, Intent, Node, Procedure, Slot, When
from subterra.compile.rollout import Plan, rollout
from subterra.compile.score import draw_scenarios
from subterra.compile.teacher_bank import dialogues
from subterra.compile.transitions import table_for, transition_table
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure
from subterra.compile.wording import WordingSource
from subterra.quantize.disclosure import disclosed, wordings
from subterra.runtime import legal_moves
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.constrained import Writing, begin
from subterra.runtime.engine import Choose
from subterra.runtime.errors import ProcedureError, UsageError
from subterra.runtime.legal_moves import is_legal, outcomes
from subterra.runtime.state_line import StateLine
from subterra.runtime.state_line import format as write_line
from subterra.runtime.transition_table import TransitionTable, parse_table

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/procedure.yaml"))
VALUES = {"kind": ("x", "y"), "name": ("Ann", "Bob")}


def accepts(table: TransitionTable, before: StateLine | None, line: StateLine) -> bool:
    """Tell whether the decoder lets the whole line through, and then anything."""
    writing: Writing | None = begin(table, before)
    for byte in (write_line(line, table.slot_names) + "\n").encode():
        writing = writing.feed(bytes([byte])) if writing else None
    return writing is not None and writing.feed(b"| > any\n") is not None


def check_dialogues(procedure: Procedure, bank: UserBank, count: int) -> None:
    table = transition_table(procedure)
    for dialogue in islice(dialogues(procedure, bank, seed=3), count):
        before: StateLine | None = None
        for turn in dialogue.turns:
            line = state_line(turn)
            assert is_legal(table, before, line), (before, line)
            assert accepts(table, before, line), (before, line)
            before = line


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_gold_line_of_an_example_is_legal(path: Path) -> None:
    procedure = load_procedure(path)
    check_dialogues(procedure, load_bank(path.parent / "users" / "train.yaml", procedure), 40)


def test_every_gold_line_of_a_procedure_with_an_open_slot_is_legal(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    check_dialogues(kettle, kettle_bank, 150)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_file_reads_back_is_small_and_holds_no_wording(path: Path) -> None:
    procedure = load_procedure(path)
    table = transition_table(procedure)
    data = table.to_bytes()
    assert parse_table(data) == table
    assert len(data) < path.stat().st_size / 2
    values = {value for slot in procedure.slots for value in slot.values}
    assert not disclosed(data.decode(), wordings(path) - values)


BEFORE = StateLine(("not_fixed",), "fix_audio", (("issue", "audio"), ("device", "Mac")))
GOOD = StateLine(("not_fixed",), "deeper", BEFORE.slots, ("tried",))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, intents=("not_fixd",)),
        replace(GOOD, intents=("not_fixed", "not_fixed")),
        replace(GOOD, intents=("start",)),
        replace(GOOD, node="verify", flags=()),
        replace(GOOD, node="response"),
        replace(GOOD, node="nowhere"),
        replace(GOOD, node="escalated", flags=()),
        replace(GOOD, slots=(("issue", "audio"), ("device", "Linux"))),
        replace(GOOD, slots=(("issue", "audio"), ("device", None))),
        replace(GOOD, slots=(("issue", "audio"), ("device", "iOS"))),
        replace(GOOD, flags=()),
        StateLine(("fixed",), "verify", BEFORE.slots, ("tried",)),
        StateLine(("report_video",), "fix_audio", BEFORE.slots),
        StateLine(("small_talk",), "verify", BEFORE.slots),
        StateLine(("correction",), "fix_video", BEFORE.slots),
    ],
)
def test_a_line_that_the_procedure_does_not_allow_is_refused(
    zoom: Procedure, wrong: StateLine
) -> None:
    table = transition_table(zoom)
    assert is_legal(table, BEFORE, GOOD)
    assert accepts(table, BEFORE, GOOD)
    assert not is_legal(table, BEFORE, wrong)
    if wrong.node in table.nodes:
        assert not accepts(table, BEFORE, wrong)


@st.composite
def procedures(draw: st.DrawFn) -> Procedure:
    """Draw a graph of two hubs, a closed and an open slot, two flags, in any connection."""
    hubs, speakers = ("h0", "h1"), ("n0", "n1", "n2", "end")
    flags = st.sets(st.sampled_from(("f", "g"))).map(lambda found: tuple(sorted(found)))

    def edge() -> Edge:
        tests = draw(st.dictionaries(st.sampled_from(("kind", "name")), st.booleans(), max_size=2))
        wanted = tuple(
            (name, draw(st.sampled_from((*VALUES[name], None)))) for name in sorted(tests)
        )
        tested = draw(st.dictionaries(st.sampled_from(("f", "g")), st.booleans(), max_size=1))
        meant = draw(st.sets(st.sampled_from(("i", "j", "k", "c")), max_size=3))
        target = draw(st.sampled_from(speakers))
        return Edge(target, "", tuple(sorted(meant)), When(wanted, tuple(tested.items())))

    nodes = [
        Node(name, "agent", sets=draw(flags), clears=draw(flags), next=draw(st.sampled_from(hubs)))
        for name in speakers[:-1]
    ]
    for name in hubs:
        edges = tuple(edge() for _ in range(draw(st.integers(1, 4))))
        default = draw(st.none() | st.sampled_from(speakers))
        nodes.append(Node(name, "hub", edges=edges, default=default))
    slots = [
        Slot("kind", "", VALUES["kind"], draw(st.sampled_from(hubs))),
        Slot("name", "", (), draw(st.sampled_from(hubs))),
    ]
    return Procedure(
        "random", "", "", "n0", tuple(slots), ("f", "g"),
        (Intent("i", "", (("kind", "x"),)), Intent("j", "", (("kind", "y"),)), Intent("k", "")),
        (Intent("c", ""),), (Aside("s", "", ("Yes.",)),), (*nodes, Node("end", "terminal")),
    )  # fmt: skip


def messages(procedure: Procedure) -> Iterator[Message]:
    """List messages of up to two intents that do not contradict the slots that they name."""
    names = ("i", "j", "k", "c", "s")
    for intents in (*permutations(names, 1), *permutations(names, 2)):
        implied = {n: v for intent in procedure.intents if intent.name in intents
                   for n, v in intent.sets}  # fmt: skip
        for kind, name in product((None, "x", "y"), (None, "Ann", "Bob", "Cy")):
            slots = {n: v for n, v in (("kind", kind), ("name", name)) if v}
            if "c" in intents or all(implied.get(n, v) == v for n, v in slots.items()):
                yield Message(intents, slots)


def candidates(procedure: Procedure, intents: tuple[str, ...]) -> Iterator[StateLine]:
    for node in ("n0", "n1", "n2", "end"):
        for kind, name in product((None, "x", "y"), (None, "Ann", "Bob", "Cy")):
            for flags in ((), ("f",), ("g",), ("f", "g")):
                yield StateLine(intents, node, (("kind", kind), ("name", name)), flags)


def line_of(procedure: Procedure, message: Message | None, step: Move) -> StateLine:
    return state_line(gold_turn(procedure, None, message, step, ""))


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(procedure=procedures(), data=st.data())
def test_legal_is_what_some_message_leads_to_and_nothing_else(
    procedure: Procedure, data: st.DataObject
) -> None:
    table = transition_table(procedure)
    kind, name = (data.draw(st.sampled_from((None, *VALUES[n]))) for n in ("kind", "name"))
    node = data.draw(st.sampled_from(("n0", "n1", "n2")))
    earlier = data.draw(st.sets(st.sampled_from(("f", "g"))))
    flags = frozenset(table.flags_at(node, frozenset(earlier)))
    state = State(node, {"kind": kind, "name": name}, flags)
    before = line_of(procedure, Message(("k",)), Move(state))
    gold: dict[tuple[str, ...], set[StateLine]] = {}
    for message in messages(procedure):
        line = line_of(procedure, message, move(procedure, state, message))
        gold.setdefault(message.intents, set()).add(line)
    for intents, lines in gold.items():
        legal = {c for c in candidates(procedure, intents) if is_legal(table, before, c)}
        assert legal == lines
    for line in data.draw(st.lists(st.sampled_from(sorted(gold["k", "s"], key=str)), max_size=3)):
        assert accepts(table, before, line)
    for intents in data.draw(st.lists(st.sampled_from(sorted(gold)), max_size=3)):
        for line in candidates(procedure, intents):
            assert accepts(table, before, line) == (line in gold[intents])


@settings(max_examples=15, deadline=None)
@given(procedure=procedures())
def test_the_opening_is_the_only_first_line(procedure: Procedure) -> None:
    table = transition_table(procedure)
    first = line_of(procedure, None, opening(procedure))
    assert accepts(table, None, first)
    assert {c for c in candidates(procedure, ("start",)) if is_legal(table, None, c)} == {first}
    assert not is_legal(table, None, replace(first, intents=("k",)))


def test_a_terminal_is_not_left_without_a_change(kettle: Procedure) -> None:
    table = transition_table(kettle)
    slots = (("fault", "leak"), ("owner", "Ann"))
    end = StateLine(("works",), "done", slots)
    assert {o.node for o in outcomes(table, end, ("chat",))} == {"done", "ask"}
    assert is_legal(table, end, StateLine(("stop",), "done", slots))
    assert not is_legal(table, end, StateLine(("stop",), "gone", slots))
    again = StateLine(("take_back",), "mend", (("fault", "cold"), ("owner", "Ann")))
    assert is_legal(table, end, again)


class Wrong:
    """Slots that prefer a wrong node to the right one; prove what a table does to a rollout."""

    count = 1

    def __init__(self, engine: GoldEngine, tokenizer: ChatTokenizer, wrong: tuple[str, str]):
        self._engine, self._tokenizer, self._wrong = engine, tokenizer, wrong
        self._reply: list[int] = []

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        gold = self._tokenizer.decode(self._engine.answer(tokens))
        self._reply, written = [], ""
        while wishes := [w for w in (gold.replace(*self._wrong, 1), gold) if w.startswith(written)]:
            logits = np.zeros(self._tokenizer.vocab_size, np.float32)
            for rank, wish in reversed(list(enumerate(wishes))):
                if left := self._tokenizer.encode_text(wish[len(written) :]):
                    logits[left[0]] = 9 - rank
            if not logits.any():
                break
            self._reply.append(choose(logits) if choose else int(logits.argmax()))
            written = self._tokenizer.decode(self._reply)

    def step(self) -> list[tuple[int, list[int]]]:
        return [(0, self._reply)]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("held", [True, False])
def test_an_agent_that_would_leave_its_procedure_is_held_to_it(
    gold_engine: Callable[..., GoldEngine],
    kettle: Procedure,
    kettle_bank: UserBank,
    tokenizer: ChatTokenizer,
    held: bool,
) -> None:
    engine = gold_engine(kettle, kettle_bank, tokenizer)
    plan = Plan(
        kettle,
        draw_scenarios(kettle, kettle_bank, 6, 1),
        lambda index: WordingSource(kettle_bank, random.Random(index)),
        tokenizer,
        NodeReader(kettle, "traced"),
        seed=1,
        context_tokens=1 << 20,
        table=transition_table(kettle) if held else None,
    )
    found = rollout(plan, Wrong(engine, tokenizer, ("> done", "> gone")))
    reached = {c.ended_at for c in found if c.scenario.path[-1] == "done"}
    assert reached == {"done" if held else "gone"}


def test_a_sealed_agent_is_scored_as_it_runs_and_a_work_folder_as_it_would(
    kettle: Procedure,
) -> None:
    table = transition_table(kettle)
    loose = AgentSource("x", "Q8_0", "llama.cpp", Path(), Path(), "", "traced")
    sealed, older = replace(loose, sealed=True, table=table), replace(loose, sealed=True)
    plain = replace(loose, recipe="plain")
    assert table_for(loose, kettle) == table
    assert table_for(sealed, kettle) is table
    assert [table_for(source, kettle) for source in (older, plain)] == [None, None]
    held_off = [table_for(source, kettle, constrained=False) for source in (loose, sealed, plain)]
    assert held_off == [None] * 3


def test_a_procedure_that_was_edited_after_the_training_holds_nothing(kettle: Procedure) -> None:
    source = AgentSource("x", "Q8_0", "llama.cpp", Path(), Path(), "", "traced")
    compiled = replace(source, procedure_sha256=kettle.sha256)
    edited = replace(source, procedure_sha256="f" * 64)
    assert kettle.sha256
    assert table_for(compiled, kettle) == transition_table(kettle)
    assert table_for(edited, kettle) is None
    assert table_for(edited, replace(kettle, sha256=None)) is not None


@pytest.mark.parametrize("constrained", [True, False])
def test_an_agent_of_other_slots_is_not_scored(kettle: Procedure, constrained: bool) -> None:
    source = AgentSource("x", "Q8_0", "llama.cpp", Path(), Path(), "", "traced", sealed=True)
    assert table_for(replace(source, slots=kettle.slot_names), kettle) is None
    with pytest.raises(UsageError, match="x has the slots fault, kettle has fault, owner"):
        table_for(replace(source, slots=("fault",)), kettle, constrained=constrained)


def crossed(pairs: int) -> Procedure:
    """Make a procedure whose hub tests two slots at a time, so that each test doubles the boxes."""
    names = [f"s{index}" for index in range(2 * pairs)]
    tests = [((a, "x"), (b, "x")) for a, b in zip(names[::2], names[1::2], strict=True)]
    edges = tuple(Edge("end", "", (), When(test)) for test in tests)
    nodes = (
        Node("start", "agent", next="hub"),
        Node("hub", "hub", edges=edges, default="start"),
        Node("end", "terminal"),
    )
    slots = tuple(Slot(name, "", ("x", "y"), "hub") for name in names)
    return Procedure("crossed", "", "", "start", slots, (), (Intent("i", ""),), (), (), nodes)


def test_tests_that_cut_the_slot_values_too_often_are_refused_before_sealing() -> None:
    transition_table(crossed(4))
    with pytest.raises(ProcedureError, match="one message could cut the slot values") as caught:
        transition_table(crossed(12))
    assert "--unconstrained" in caught.value.hint


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(procedure=procedures(), data=st.data())
def test_no_message_cuts_the_slot_values_more_often_than_was_reckoned(
    procedure: Procedure, data: st.DataObject
) -> None:
    table = transition_table(procedure)
    kind, name = (data.draw(st.sampled_from((None, *VALUES[n]))) for n in ("kind", "name"))
    flags = tuple(data.draw(st.sets(st.sampled_from(("f", "g")))))
    node = data.draw(st.sampled_from(("n0", "n1", "n2", "end")))
    before = StateLine(("k",), node, (("kind", kind), ("name", name)), flags)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legal_moves, "CUTS_MAX", most_cuts(table))
        for size in (1, 2, 5):
            for intents in combinations(table.meanings, size):
                outcomes(table, before, intents)  # raises above CUTS_MAX


def test_a_value_that_no_state_line_can_hold_is_a_procedure_error(kettle: Procedure) -> None:
    first, *rest = kettle.slots
    broken = replace(kettle, slots=(replace(first, values=("a|b",)), *rest))
    with pytest.raises(ProcedureError, match=r"'a\|b' cannot be written"):
        transition_table(broken)
