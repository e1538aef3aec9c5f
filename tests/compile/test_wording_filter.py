"""The filters of what a teacher writes, one by one, on the kettle and on Zoom support."""

from dataclasses import replace
from pathlib import Path

import pytest

from subterra.compile.agent_text import AgentText
from subterra.compile.bank_document import fold
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import UserBank, load_bank, own_texts
from subterra.compile.wording_filter import (
    MAX_CHARACTERS,
    REASONS,
    RIVAL_SCORE,
    Reason,
    WordingFilter,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"
BARRED = {"it dribbles from below"}


@pytest.fixture(scope="module")
def shared(kettle: Procedure, kettle_bank: UserBank) -> WordingFilter:
    return WordingFilter(kettle, kettle_bank, BARRED)


@pytest.mark.parametrize(
    ("intent", "text"),
    [
        ("say_leak", "something drips onto my shelf"),
        ("say_leak", "my table is wet, {owner} here"),
        ("give_owner", "{owner}, that is my full name"),
        ("works", "solved, cheers"),
        ("take_back", "oh no, I really meant {fault}"),
        ("chat", "nice weather today"),
    ],
)
def test_a_new_wording_of_the_intent_is_kept(shared: WordingFilter, intent: str, text: str) -> None:
    assert shared.of(intent).reason(text) is None


@pytest.mark.parametrize(
    ("intent", "text", "reason"),
    [
        ("say_leak", "", "empty"),
        ("say_leak", " ... {} ", "empty"),
        ("say_leak", "3.", "empty"),
        ("say_leak", "drips \x1b[31m here", "unreadable"),
        ("say_leak", "drips \N{REPLACEMENT CHARACTER} here", "unreadable"),
        ("say_leak", "drip " * MAX_CHARACTERS, "too long"),
        ("say_leak", "drips at {place}", "unknown placeholder"),
        ("say_leak", "drips at { owner }", "unknown placeholder"),
        ("say_leak", "drips at {owner", "unknown placeholder"),
        ("say_leak", "{owner} and {owner} have a wet shelf", "unknown placeholder"),
        ("say_leak", "wet shelf at [your name]", "unknown placeholder"),
        ("say_leak", "wet shelf on <date>", "unknown placeholder"),
        ("say_leak", "wet shelf at ____", "unknown placeholder"),
        ("works", "{owner} says all fine", "unknown placeholder"),
        ("give_owner", "people call me by my name", "missing placeholder"),
        ("take_back", "{owner} has {fault} instead", "missing placeholder"),
        ("say_leak", "the shelf is wet, says Benny", "slot value"),
        ("works", "Ann has hot water", "slot value"),
        ("say_leak", "It dribbles, from below!", "held out"),
        ("say_leak", "IT LEAKS", "duplicate"),
        ("works", "Dry the ring.", "agent's text"),
        ("works", "Leak or cold, and who?", "agent's text"),
        ("say_leak", "it stays cold now", "other intent"),
        ("works", "works and you are nice", "other intent"),
        ("fails", "it works", "other intent"),
    ],
)
def test_what_does_not_fit_is_refused_for_its_reason(
    shared: WordingFilter, intent: str, text: str, reason: Reason
) -> None:
    assert shared.of(intent).reason(text) == reason
    assert reason in REASONS


def test_what_was_kept_is_a_duplicate_from_then_on(shared: WordingFilter) -> None:
    judge = shared.of("works")
    assert judge.reason("solved, cheers") is None
    judge.keep("solved, cheers")
    assert judge.reason("Solved - CHEERS") == "duplicate"
    assert shared.of("fails").reason("solved, cheers") != "duplicate"


def test_a_value_that_the_intent_itself_sets_may_be_named(shared: WordingFilter) -> None:
    assert shared.of("say_leak").reason("all of it is dripping on me") is None
    assert shared.of("works").reason("all of the dripping ended") == "slot value"


def test_what_was_kept_does_not_pull_the_intent_along(shared: WordingFilter) -> None:
    judge = shared.of("say_leak")
    judge.keep("it stays cold down here")
    assert judge.reason("it stays cold down there") == "other intent"


def test_general_wordings_count_as_there(kettle: Procedure, kettle_bank: UserBank) -> None:
    bank = replace(kettle_bank, general={"works": ("all sorted",)})
    judge = WordingFilter(kettle, bank).of("works")
    assert judge.reason("All sorted!") == "duplicate"
    assert judge.reason("all sorted over here") is None


def test_a_run_of_the_agents_words_is_its_text_unless_users_said_it(zoom: Procedure) -> None:
    agent = AgentText(zoom)
    again = zoom.node("welcome").again[0]
    words = fold(again).split()
    shown = " ".join(words[:7])
    assert agent.leaks(f"you asked: {shown} yes", allowed=())
    assert not agent.leaks(" ".join(words[:4]), allowed=())
    own = frozenset(tuple(words[i : i + 6]) for i in range(2))
    assert not agent.leaks(shown, allowed=own)


@pytest.fixture(scope="module")
def zoom_filter(zoom: Procedure, zoom_bank: UserBank) -> WordingFilter:
    """Return the example's filter, with nothing barred."""
    return WordingFilter(zoom, load_bank(EXAMPLE / "users" / "train.yaml", zoom, training=True))


def test_most_held_out_wordings_pass_and_most_of_a_rivals_are_caught(
    zoom_filter: WordingFilter, zoom_bank: UserBank
) -> None:
    """Hold the figures at `RIVAL_SCORE` against a part of the example."""
    right, wrong = zoom_filter.of("report_audio"), zoom_filter.of("report_video")
    texts = zoom_bank.intents["report_audio"]
    assert RIVAL_SCORE == 0.3
    assert sum(right.reason(text) is None for text in texts) >= 0.8 * len(texts)
    assert sum(wrong.reason(text) == "other intent" for text in texts) >= 0.9 * len(texts)


def test_what_is_like_nothing_of_the_intent_is_refused(zoom_filter: WordingFilter) -> None:
    judge = zoom_filter.of("report_audio")
    assert judge.reason("An imaginary scene, an example.") == "unlike the intent"
    assert judge.reason("my kid cant be heard in class") is None


def test_no_wording_of_a_held_out_bank_comes_in(
    zoom_filter: WordingFilter, zoom_bank: UserBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    barred = frozenset(fold(text) for text in own_texts(zoom_bank))
    monkeypatch.setattr(zoom_filter, "barred", barred)
    for intent in ("report_audio", "fixed", "want_human"):
        judge = zoom_filter.of(intent)
        assert all(judge.reason(text) is not None for text in zoom_bank.intents[intent])
