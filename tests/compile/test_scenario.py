"""Scenarios and their users: what is told, when, and how a misheard value is put right."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest

from subterra.compile.policy import opening
from subterra.compile.procedure import Procedure
from subterra.compile.scenario import MAX_CORRECTIONS, Scenario, Temper, User, scenarios
from subterra.compile.teacher_bank import agent_paths
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import WordingSource

CALM = Temper(aside=0, false_start=0, detour=0)
WAY = ("hello", "mend", "retry", "done")
TRUTH = {"fault": "leak", "owner": "Ben"}


def stream(
    procedure: Procedure, bank: UserBank, seed: int = 0, temper: Temper = CALM
) -> Iterator[Scenario]:
    return scenarios(procedure, bank, agent_paths(procedure), random.Random(seed), temper)


def user(
    procedure: Procedure, bank: UserBank, scenario: Scenario | None = None, seed: int = 0
) -> User:
    rng = random.Random(seed)
    chosen = scenario or Scenario(WAY, TRUTH, None, CALM)
    return User(procedure, WordingSource(bank, rng), chosen, rng)


def test_each_round_takes_every_path_once(kettle: Procedure, kettle_bank: UserBank) -> None:
    paths = agent_paths(kettle)
    drawn = [s.path for s in islice(stream(kettle, kettle_bank), 2 * len(paths))]
    assert sorted(drawn[: len(paths)]) == sorted(drawn[len(paths) :]) == sorted(paths)


def test_the_path_decides_slots_where_it_must(zoom: Procedure, zoom_bank: UserBank) -> None:
    for scenario in islice(stream(zoom, zoom_bank), 100):
        fixes = [name for name in scenario.path if name.startswith("fix_")]
        assert fixes in ([], [f"fix_{scenario.slots['issue']}"])


def test_an_open_slot_takes_the_values_of_the_bank(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    owners = {s.slots["owner"] for s in islice(stream(kettle, kettle_bank), 60)}
    assert owners == {"Anna", "Ben", "Cleo"}


def test_a_false_start_is_another_value_of_the_slot(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    found = islice(stream(kettle, kettle_bank, temper=Temper(false_start=1)), 60)
    wrongs = [(scenario.wrong, scenario.slots) for scenario in found]
    assert {wrong[0] for wrong, _ in wrongs if wrong} == {"fault", "owner"}
    assert all(wrong and slots[wrong[0]] != wrong[1] for wrong, slots in wrongs)


def test_what_cannot_be_corrected_is_never_told_wrongly(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    intents = {**kettle_bank.intents, "take_back": ("wrong, {owner}",)}
    bank = replace(kettle_bank, intents=intents)
    found = islice(stream(kettle, bank, temper=Temper(false_start=1)), 40)
    assert {scenario.wrong[0] for scenario in found if scenario.wrong} == {"owner"}


def test_a_procedure_without_slots_has_scenarios_too(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    bare = replace(kettle, slots=())
    found = next(scenarios(bare, kettle_bank, [WAY], random.Random(0), Temper(false_start=1)))
    assert (found.slots, found.wrong) == ({}, None)


def test_without_a_path_there_is_no_scenario(kettle: Procedure, kettle_bank: UserBank) -> None:
    assert list(scenarios(kettle, kettle_bank, [], random.Random(0))) == []


def test_a_user_tells_all_at_once_or_piece_by_piece(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    start = opening(kettle).state
    told = set()
    for seed in range(20):
        talker = user(kettle, kettle_bank, seed=seed)
        told.add(talker.say("hello", start.flags, start.slots).message.intents)
    assert told == {("say_leak", "give_owner"), ("give_owner",)}  # the latter names both slots

    hasty = replace(CALM, detour=1)
    told = set()
    for seed in range(20):
        talker = user(kettle, kettle_bank, Scenario(WAY, TRUTH, None, hasty), seed)
        told.add(tuple(talker.say("hello", start.flags, start.slots).message.slots))
    assert told == {(), ("owner",)}


def test_what_was_told_is_remembered_and_not_told_again(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    talker = user(kettle, kettle_bank)
    talker.say("hello", frozenset(), {"fault": None, "owner": None})
    assert talker.told == TRUTH
    assert talker.say("mend", frozenset(), TRUTH).key == "fails"
    assert talker.say("retry", frozenset({"retried"}), TRUTH).key in ("works", "works+chat")


def test_a_user_who_is_asked_again_says_again_what_is_true(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    edges = kettle.node("sort").edges[1:]  # nobody may stop here: nothing new can be said
    nodes = [replace(n, edges=edges) if n.name == "sort" else n for n in kettle.nodes]
    stubborn = replace(kettle, nodes=tuple(nodes))
    for seed in range(10):
        talker = user(stubborn, kettle_bank, seed=seed)
        talker.told.update(TRUTH)
        message = talker.say("ask", frozenset(), TRUTH).message
        assert set(message.intents) <= {"say_leak", "give_owner"}
        assert message.slots.items() <= TRUTH.items()


def test_a_hub_that_decides_on_slots_alone_still_gets_an_answer(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    edges = tuple(replace(edge, intents=()) for edge in kettle.node("sort").edges[1:])
    nodes = [replace(n, edges=edges) if n.name == "sort" else n for n in kettle.nodes]
    talker = user(replace(kettle, nodes=tuple(nodes)), kettle_bank)
    talker.say("hello", frozenset(), {"fault": None, "owner": None})
    assert talker.told == TRUTH


def test_a_value_told_wrongly_is_corrected_in_the_next_breath(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    scenario = Scenario(WAY, TRUTH, ("owner", "Anna"), CALM)
    for seed in range(10):
        talker = user(kettle, kettle_bank, scenario, seed)
        node = "hello"
        while talker.told["owner"] is None:
            talker.say(node, frozenset(), dict(talker.told))
            node = "ask"
        assert talker.told["owner"] == "Anna"
        said = talker.say("mend", frozenset(), dict(talker.told))
        assert (said.message.intents, said.message.slots) == (("take_back",), {"owner": "Ben"})
        assert talker.told["owner"] == "Ben"


def test_a_misheard_value_is_put_right_but_not_for_ever(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    talker = user(kettle, kettle_bank)
    talker.told.update(TRUTH)
    heard = {"fault": "cold", "owner": "Ben"}
    said = [talker.say("mend", frozenset(), heard).message for _ in range(MAX_CORRECTIONS + 1)]
    assert [m.intents for m in said] == [("take_back",)] * MAX_CORRECTIONS + [("fails",)]
    assert said[0].slots == {"fault": "leak"}


def test_a_value_that_the_agent_did_not_catch_is_not_corrected(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    talker = user(kettle, kettle_bank)
    talker.told.update(TRUTH)
    said = talker.say("mend", frozenset(), {"fault": None, "owner": None})
    assert said.message.intents == ("fails",)


def test_a_user_never_leaves_the_matter_twice_in_a_row(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    chatty = Scenario(WAY, TRUTH, None, replace(CALM, aside=1))
    talker = user(kettle, kettle_bank, chatty)
    said = [talker.say("hello", frozenset(), dict(talker.told)).message for _ in range(4)]
    asides = {"chat", "once_more"}
    assert [set(message.intents) <= asides for message in said] == [True, False, True, False]


def test_only_a_step_is_asked_for_once_more(kettle: Procedure, kettle_bank: UserBank) -> None:
    chatty = Scenario(WAY, TRUTH, None, replace(CALM, aside=1))
    said = {
        node: {
            user(kettle, kettle_bank, chatty, seed).say(node, frozenset(), {}).key
            for seed in range(30)
        }
        for node in ("hello", "mend")
    }
    assert said == {"hello": {"chat"}, "mend": {"chat", "once_more"}}


def test_an_aside_that_only_comes_with_a_value_is_left_out(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    bank = replace(kettle_bank, intents={**kettle_bank.intents, "chat": ("hi, I am {owner}",)})
    chatty = Scenario(WAY, TRUTH, None, replace(CALM, aside=1))
    assert user(kettle, bank, chatty).say("mend", frozenset(), {}).key == "once_more"


@pytest.mark.parametrize("seed", range(5))
def test_the_meaning_fits_the_key(kettle: Procedure, kettle_bank: UserBank, seed: int) -> None:
    talker = user(kettle, kettle_bank, seed=seed)
    said = talker.say("hello", frozenset(), {"fault": None, "owner": None})
    assert said.message.intents[0] == said.key
    assert ("give_owner" in said.message.intents) == ("owner" in said.message.slots)


def test_fresh_values_come_in_open_slots_alone(kettle: Procedure, kettle_bank: UserBank) -> None:
    found = [*islice(stream(kettle, kettle_bank, temper=Temper(fresh=1)), 40)]
    assert {s.slots["fault"] for s in found} == {"leak", "cold"}
    assert not {s.slots["owner"] for s in found} <= set(kettle_bank.slots["owner"])
    usual = [*islice(stream(kettle, kettle_bank), 40)]
    assert {s.slots["owner"] for s in usual} <= set(kettle_bank.slots["owner"])
