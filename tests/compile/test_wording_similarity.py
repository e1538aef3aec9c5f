"""Likeness of wordings by their letters."""

import pytest

from subterra.compile.wording_similarity import Match, WordingIndex

BANK = {
    "fixed": ["it works now", "the sound is back"],
    "not_fixed": ["no change at all", "it still does not work"],
    "empty": [],
}


@pytest.fixture(scope="module")
def index() -> WordingIndex:
    return WordingIndex(BANK)


def best(index: WordingIndex, text: str, *keys: str) -> Match:
    found = index.best(index.scores(text), keys)
    assert found is not None
    return found


def test_the_same_words_have_likeness_one_whatever_case_and_punctuation(
    index: WordingIndex,
) -> None:
    found = best(index, "IT works, now!", "fixed", "not_fixed")
    assert found.score == pytest.approx(1.0, abs=1e-5)
    assert (found.key, found.text) == ("fixed", "it works now")


def test_the_nearest_wording_shares_most_letters(index: WordingIndex) -> None:
    found = best(index, "sound came back", "fixed", "not_fixed")
    assert found.text == "the sound is back"
    assert 0.3 < found.score < 1
    assert best(index, "sound came back", "not_fixed").score < found.score


def test_a_typo_costs_little(index: WordingIndex) -> None:
    assert best(index, "it stil doesnt wrok", "fixed", "not_fixed").key == "not_fixed"


def test_foreign_letters_are_like_nothing(index: WordingIndex) -> None:
    assert best(index, "ζητώ βοήθεια", *BANK).score == 0


def test_the_nearest_other_wording_of_some_keys(index: WordingIndex) -> None:
    found = index.apart(["fixed", "not_fixed"])
    assert len(found) == 4
    assert found[0] == pytest.approx(best(index, "it works now", "not_fixed").score)
    assert WordingIndex({"one": ["it works"]}).apart(["one"]) == [0]


def test_keys_without_wordings_have_no_nearest(index: WordingIndex) -> None:
    assert index.best(index.scores("works"), ["empty", "unknown"]) is None
    assert WordingIndex({}).best(WordingIndex({}).scores("works"), ["any"]) is None
