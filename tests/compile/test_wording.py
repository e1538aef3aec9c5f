"""User wording: decks that wear out evenly, placeholders, noise."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra.compile.user_bank import UserBank
from subterra.compile.wording import (
    CLEAN,
    TRAINING,
    Noise,
    WordingSource,
    disturb,
    placeholders,
    vary,
)

ONE = Noise(typo=1.0)


def source(bank: UserBank, seed: int = 0, noise: Noise = CLEAN) -> WordingSource:
    return WordingSource(bank, random.Random(seed), noise)


def test_no_wording_comes_again_before_the_deck_is_empty(zoom_bank: UserBank) -> None:
    words = source(zoom_bank)
    size = len(zoom_bank.intents["fixed"])
    for _ in range(2):
        assert sorted(words.text("fixed", {}) for _ in range(size)) == sorted(
            zoom_bank.intents["fixed"]
        )


def test_no_phrase_comes_again_before_its_deck_is_empty(zoom_bank: UserBank) -> None:
    bank = UserBank(Path("bank"), {"give": ("{device}",)}, zoom_bank.slots)
    words = source(bank)
    phrases = bank.slots["device"]["Mac"]
    assert sorted(words.text("give", {"device": "Mac"}) for _ in phrases) == sorted(phrases)


def test_a_message_names_exactly_the_slots_asked_for(kettle_bank: UserBank) -> None:
    words = source(kettle_bank)
    for _ in range(8):
        assert words.text("say_leak", {}) in ("it leaks", "water below")
        text = words.text("say_leak", {"owner": "Ben"})
        assert any(name in text for name in ("Ben", "Benny"))
        assert "{" not in text


def test_a_message_may_name_two_slots(kettle_bank: UserBank) -> None:
    texts = {
        source(kettle_bank, seed).text("give_owner", {"fault": "cold", "owner": "Ben"})
        for seed in range(60)
    }
    assert {"coldness at Ben's", "Benny has chill"} <= texts


def test_a_set_of_slots_that_no_wording_names_is_refused(kettle_bank: UserBank) -> None:
    with pytest.raises(KeyError):
        source(kettle_bank).text("works", {"owner": "Ben"})


def test_the_shapes_of_a_key_are_its_sets_of_placeholders(kettle_bank: UserBank) -> None:
    words = source(kettle_bank)
    assert words.shapes("say_leak") == (frozenset(), frozenset({"owner"}))
    assert words.shapes("give_owner") == (
        frozenset({"owner"}),
        frozenset({"owner", "fault"}),
    )
    assert words.shapes("unheard_of") == ()
    assert "works+chat" in words.keys()  # noqa: SIM118 - no mapping


def test_placeholders_are_read_from_the_text() -> None:
    assert placeholders("{owner} has {fault}") == {"owner", "fault"}
    assert placeholders("no slot here") == frozenset()


def test_without_noise_a_text_is_left_alone(zoom_bank: UserBank) -> None:
    rng = random.Random(0)
    texts = [text for held in zoom_bank.intents.values() for text in held]
    assert [disturb(text, CLEAN, rng) for text in texts] == texts


def test_the_same_seed_disturbs_alike_and_another_does_not(zoom_bank: UserBank) -> None:
    texts = zoom_bank.intents["digression"]
    runs = []
    for seed in (1, 1, 2):
        rng = random.Random(seed)
        runs.append([disturb(text, TRAINING, rng) for text in texts])
    assert runs[0] == runs[1] != runs[2]


def test_training_noise_leaves_many_texts_alone_and_changes_many(zoom_bank: UserBank) -> None:
    rng = random.Random(0)
    texts = [text for held in zoom_bank.intents.values() for text in held]
    changed = sum(disturb(text, TRAINING, rng) != text for text in texts)
    assert 0.3 < changed / len(texts) < 0.8


@given(st.text(min_size=1), st.integers(0, 99))
def test_noise_never_leaves_an_empty_message(text: str, seed: int) -> None:
    loud = Noise(typo=0.5, case=0.5, punctuation=0.9, opener=0.3, closer=0.3)
    assert disturb(text, loud, random.Random(seed)).strip()


@given(st.integers(0, 300))
def test_typos_keep_the_first_letter_and_nearly_the_length(seed: int) -> None:
    typed = disturb("camera broken", ONE, random.Random(seed))
    assert typed[0] == "c"
    assert abs(len(typed) - len("camera broken")) <= 2


def test_short_texts_get_no_typo() -> None:
    assert {disturb("Mac", ONE, random.Random(seed)) for seed in range(50)} == {"Mac"}


def test_each_disturbance_does_what_its_name_says() -> None:
    rng = random.Random(4)
    assert disturb("It's broken, now.", Noise(punctuation=1), rng) == "Its broken now"
    assert disturb("ok", Noise(case=1), random.Random(0)) in ("ok", "OK")
    assert disturb("no sound", Noise(opener=1), rng).endswith(" no sound")
    assert disturb("no sound.", Noise(closer=1), rng).startswith("no sound")


def test_a_value_that_is_copied_word_for_word_is_spared_by_noise(kettle_bank: UserBank) -> None:
    loud = Noise(typo=1, case=1, punctuation=1, opener=1, closer=1)
    texts = WordingSource(kettle_bank, random.Random(0), loud)
    spoken = [texts.text("say_leak", {"owner": "Dr. Quill-Øst"}) for _ in range(40)]
    assert all("Dr. Quill-Øst" in text for text in spoken)
    assert len(set(spoken)) > 10


def test_other_phrases_of_a_value_are_disturbed(kettle_bank: UserBank) -> None:
    texts = WordingSource(kettle_bank, random.Random(0), Noise(typo=1))
    spoken = [texts.text("give_owner", {"fault": "leak", "owner": "Anna"}) for _ in range(60)]
    assert any(not any(p in text for p in kettle_bank.slots["fault"]["leak"]) for text in spoken)


@pytest.mark.parametrize("value", ["12 to 19 May", "KX-4471", "$1,200", "Lisbon", "two adults"])
def test_a_varied_value_is_like_the_one_it_came_from(value: str) -> None:
    found = {vary(value, random.Random(seed)) for seed in range(60)}
    assert len(found) > 20
    for other in found:
        assert re.sub(r"\d+", "0", other) == re.sub(r"\d+", "0", value) or (
            len(other) == len(value) and sum(map(str.__ne__, other, value)) <= 1
        )


def test_a_value_too_short_to_vary_stays() -> None:
    assert vary("UK", random.Random(0)) == "UK"
