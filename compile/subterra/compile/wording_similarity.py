"""How like two wordings are: cosine of their letter sequences, the rare ones weighing more.

Goes in: wordings under keys. Comes out: for a text, the nearest wording of some keys. Each text is
a vector of its character n-grams, weighted by term and inverse document frequency (Salton and
Buckley 1988; n-grams inside words as in Cavnar and Trenkle 1994). Sees spelling, not meaning.

    >>> index = WordingIndex({"fixed": ["it works"], "not_fixed": ["no sound"]})
    >>> index.best(index.scores("works"), ["fixed"]).text
    'it works'
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subterra.compile.bank_document import fold

SIZES = (2, 3, 4)
"""Lengths of the n-grams, in characters."""

Weights = dict[str, float]
"""n-gram -> weight."""


@dataclass(frozen=True, slots=True)
class Match:
    """A wording and its cosine, 0 (no n-gram shared) to 1 (the same n-grams)."""

    score: float
    key: str
    text: str


class WordingIndex:
    """Wordings by key; for each n-gram, the wordings that hold it and its weight there."""

    def __init__(self, wordings: Mapping[str, Iterable[str]]) -> None:
        self._entries = [(key, text) for key, texts in wordings.items() for text in texts]
        counted = [_ngrams(text) for _, text in self._entries]
        held = Counter(gram for counts in counted for gram in counts)
        size = len(counted)
        self._rarity = {g: math.log((1 + size) / (1 + count)) + 1 for g, count in held.items()}
        self._unseen = math.log(1 + size) + 1
        places: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, counts in enumerate(counted):
            for gram, weight in self._vector(counts).items():
                places[gram].append((index, weight))
        self._places = {gram: _columns(found) for gram, found in places.items()}
        keys = np.array([key for key, _ in self._entries])
        self._of_key = {key: np.flatnonzero(keys == key) for key in wordings}

    def scores(self, text: str) -> NDArray[np.float32]:
        """Give the cosine (N,) with every wording, in the order of the keys and wordings."""
        found = np.zeros(len(self._entries), np.float32)
        for gram, weight in self._vector(_ngrams(text)).items():
            if gram in self._places:
                indices, weights = self._places[gram]
                found[indices] += weight * weights
        return found

    def best(self, scores: NDArray[np.float32], keys: Collection[str]) -> Match | None:
        """Find the best of `scores` among the wordings of some keys; None if they have none."""
        rows = [self._of_key[key] for key in keys if key in self._of_key]
        chosen = np.concatenate(rows) if rows else np.empty(0, np.intp)
        if not len(chosen):
            return None
        index = int(chosen[scores[chosen].argmax()])
        return Match(float(min(scores[index], 1.0)), *self._entries[index])

    def apart(self, keys: Collection[str]) -> NDArray[np.float32]:
        """Give, for each wording of some keys, the cosine with the nearest other one of them."""
        rows = np.concatenate([self._of_key[key] for key in keys])
        found = np.empty(len(rows), np.float32)
        for place, row in enumerate(rows):
            scores = self.scores(self._entries[row][1])[rows]
            scores[place] = 0
            found[place] = scores.max()
        return found

    def _vector(self, counts: Counter[str]) -> Weights:
        """Weigh n-grams so that the vector's length is 1."""
        weighted = {
            gram: (1 + math.log(count)) * self._rarity.get(gram, self._unseen)
            for gram, count in counts.items()
        }
        length = math.sqrt(sum(weight * weight for weight in weighted.values()))
        return {gram: weight / length for gram, weight in weighted.items()}


def _columns(places: list[tuple[int, float]]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    indices, weights = zip(*places, strict=True)
    return np.array(indices, np.intp), np.array(weights, np.float32)


def _ngrams(text: str) -> Counter[str]:
    """Count the n-grams of each word between two spaces, so that its ends show.

    A placeholder's name counts like any word: that a slot is named says much about the intent.
    """
    return Counter(
        word[start : start + size]
        for word in (f" {word} " for word in fold(text).split())
        for size in SIZES
        for start in range(len(word) - size + 1)
    )
