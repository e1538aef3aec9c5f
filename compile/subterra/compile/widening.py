"""Widening: a teacher is asked, intent by intent, until a bank holds enough new wordings.

Goes in: a teacher, a procedure, the training bank with its filter, the file that grows. Comes out:
the file, and what was refused for which reason. After each reply the file is whole, so that a run
that ends early goes on where it stopped. Does not know who the teacher is.

    >>> tallies = Widening(teacher, procedure, bank, shared, widened).run(["fixed"], print)
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.teacher_prompt import SYSTEM, VOICES, list_items, request
from subterra.compile.teachers import Teacher
from subterra.compile.user_bank import UserBank
from subterra.compile.widened_bank import WidenedBank
from subterra.compile.wording_filter import IntentFilter, Reason, WordingFilter
from subterra.runtime.errors import TeacherError

FRUITLESS = 5
"""Replies in a row without a new wording, after which an intent is left as it is."""
LISTLESS = 3
"""Replies in a row without any list item, after which the teacher is taken to write nonsense."""

LINES = 2
"""Lines of a reply that are waited for, for each message asked for: blank ones and talk count."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked for."""

    count: int = 40
    """New wordings an intent, those of earlier runs included."""
    batch: int = 10
    """Messages a request."""
    samples: int = 8
    """The author's wordings that a request shows."""
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """What came of one intent in this run."""

    total: int = 0
    """Wordings that the file holds, those of earlier runs included."""
    requests: int = 0
    kept: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)

    @property
    def rejected(self) -> Rate:
        """Share of what the teacher wrote that was refused."""
        refused = self.refused.total()
        return Rate(refused, refused + self.kept)


class Widening:
    """One run."""

    def __init__(
        self,
        teacher: Teacher,
        procedure: Procedure,
        bank: UserBank,
        shared: WordingFilter,
        widened: WidenedBank,
        plan: Plan,
    ) -> None:
        self._teacher, self._procedure, self._bank = teacher, procedure, bank
        self._shared, self._widened, self._plan = shared, widened, plan
        self._listless = 0
        self.tallies: dict[str, Tally] = {}

    def run(self, intents: Iterable[str], report: Callable[[str], None]) -> None:
        """Ask until each intent has enough, or the teacher has nothing more to say for it.

        Raises:
            TeacherError: the teacher is out of reach, or nothing that it writes is of use.
            EngineError: a local model cannot read a request.
            ResourceError: the file cannot be written.
        """
        for intent in self._widened.lacking(intents, self._plan.count):
            self._widen(intent, report)
        found = self.tallies.values()
        if self.tallies and not any(tally.total for tally in found):
            reasons = sum((tally.refused for tally in found), Counter[Reason]())
            raise TeacherError(
                f"nothing that {self._teacher.model} wrote can be used ({_listed(reasons)})",
                hint="try a stronger --model, or another --temperature",
            )

    def _widen(self, intent: str, report: Callable[[str], None]) -> None:
        held = self._widened.wordings(intent)
        tally = self.tallies.setdefault(intent, Tally(total=len(held)))
        judge = self._shared.of(intent)
        for text in held:
            judge.keep(text)
        number, fruitless = len(held), 0
        while tally.total < self._plan.count and fruitless < FRUITLESS:
            voice = list(VOICES)[(number // self._plan.batch + tally.requests) % len(VOICES)]
            found = self._asked(intent, voice, number + tally.requests)
            new = self._judged(judge, found, tally)
            self._widened.add(intent, new)
            fruitless = 0 if new else fruitless + 1
            done = f"{len(new)} of {len(found)} kept, {tally.total} of {self._plan.count}"
            report(f"{intent}, {voice}: {done}")
        if tally.total < self._plan.count:
            report(f"{intent}: left at {tally.total}; {FRUITLESS} replies brought nothing new")

    def _asked(self, intent: str, voice: str, number: int) -> list[str | None]:
        rng = random.Random(f"{self._plan.seed}/{intent}/{number}")
        own = self._bank.wordings(intent)
        samples = rng.sample(own, min(self._plan.samples, len(own)))
        text = request(self._procedure, intent, own, samples, voice, self._plan.batch)
        reply = self._teacher.write(
            SYSTEM, text, seed=rng.getrandbits(31), lines=LINES * self._plan.batch
        )
        found = list_items(reply.text, cut=reply.cut)
        self._listless = 0 if any(item is not None for item in found) else self._listless + 1
        if self._listless == LISTLESS:
            raise TeacherError(
                f"{self._teacher.model} writes no list: {LISTLESS} replies without an item",
                hint="give an instruct model with --model",
            )
        return found

    def _judged(self, judge: IntentFilter, found: Iterable[str | None], tally: Tally) -> list[str]:
        tally.requests += 1
        new: list[str] = []
        for text in found:
            if tally.total == self._plan.count:
                break
            reason = "no list item" if text is None else judge.reason(text)
            if text is None or reason:
                tally.refused[reason or "no list item"] += 1
                continue
            judge.keep(text)
            new.append(text)
            tally.kept += 1
            tally.total += 1
        return new


def _listed(reasons: Counter[Reason]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "no replies"
