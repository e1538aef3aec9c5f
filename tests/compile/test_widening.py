"""Widening with a stub teacher: voices, counts, reasons, ends, and going on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from subterra.compile.procedure import Procedure
from subterra.compile.teacher_prompt import VOICES
from subterra.compile.teachers import Kind, Reply
from subterra.compile.user_bank import UserBank
from subterra.compile.widened_bank import Author, WidenedBank
from subterra.compile.widening import FRUITLESS, LISTLESS, Plan, Widening
from subterra.compile.wording_filter import WordingFilter
from subterra.runtime.errors import TeacherError


class StubTeacher:
    """Writes what a function of the request's number gives."""

    kind: Kind = "local"
    model = "stub"
    host = ""

    def __init__(self, write: Callable[[int], str]) -> None:
        self._write = write
        self.requests: list[str] = []
        self.seeds: list[int] = []

    def write(self, system: str, request: str, *, seed: int, lines: int) -> Reply:
        self.requests.append(request)
        self.seeds.append(seed)
        return Reply(self._write(len(self.requests)))

    def close(self) -> None:
        pass


Make = Callable[..., Widening]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "widened.yaml"


@pytest.fixture
def make(kettle: Procedure, kettle_bank: UserBank, path: Path) -> Make:
    """Make a widening of the kettle's bank."""

    def make(teacher: StubTeacher, **plan: int) -> Widening:
        shared = WordingFilter(kettle, kettle_bank, {"barred phrase altogether"})
        bank = WidenedBank(path)
        bank.sign(Author(teacher.kind, teacher.model, teacher.host, "2026-11-22"))
        return Widening(teacher, kettle, kettle_bank, shared, bank, Plan(**plan))

    return make


def numbered(number: int) -> str:
    return "\n".join(f"{n}. solved {number} and {n} over" for n in range(1, 4))


def test_requests_go_round_the_voices_until_there_is_enough(make: Make, path: Path) -> None:
    teacher = StubTeacher(numbered)
    widening = make(teacher, count=20, batch=3)
    widening.run(["works"], lambda line: None)
    assert len(WidenedBank(path).wordings("works")) == 20
    assert len(teacher.requests) == 7
    for voice, request in zip(VOICES, teacher.requests, strict=True):
        assert f"Voice: {voice}:" in request
    assert len(set(teacher.seeds)) == 7
    assert len(set(teacher.requests)) == 7
    tally = widening.tallies["works"]
    assert (tally.kept, tally.total, tally.requests) == (20, 20, 7)


def test_each_refusal_is_counted_by_its_reason(make: Make) -> None:
    reply = "\n".join(
        [
            "Sure, here you are:",
            "1. solved for good",
            "2. Solved, for good!",
            "3. it works",
            "4.",
            "5. no change in it",
            "6. {owner} says solved",
            "7. Barred phrase, altogether.",
            "8. Dry the ring.",
        ]
    )
    widening = make(StubTeacher(lambda number: reply), count=1)
    lines: list[str] = []
    widening.run(["works"], lines.append)
    assert widening.tallies["works"].refused == {"no list item": 1}
    widening = make(StubTeacher(lambda number: reply), count=5)
    widening.run(["works"], lines.append)
    tally = widening.tallies["works"]
    assert (tally.kept, tally.total) == (0, 1)
    assert {reason: n / tally.requests for reason, n in tally.refused.items()} == {
        "no list item": 1,
        "duplicate": 3,
        "empty": 1,
        "other intent": 1,
        "unknown placeholder": 1,
        "held out": 1,
        "agent's text": 1,
    }
    assert tally.rejected.value == 1


def test_a_run_goes_on_where_the_last_one_stopped(make: Make, path: Path) -> None:
    def interrupted(number: int) -> str:
        if number == 3:
            raise KeyboardInterrupt
        return numbered(number)

    with pytest.raises(KeyboardInterrupt):
        make(StubTeacher(interrupted), count=9).run(["works"], lambda line: None)
    before = list(WidenedBank(path).wordings("works"))
    assert len(before) == 6
    teacher = StubTeacher(lambda number: numbered(number))
    widening = make(teacher, count=9)
    widening.run(["works"], lambda line: None)
    after = WidenedBank(path).wordings("works")
    assert after[:6] == before
    assert len(after) == 9
    assert widening.tallies["works"].refused == {"duplicate": 6}


def test_what_is_complete_is_not_asked_for_again(make: Make) -> None:
    make(StubTeacher(numbered), count=3).run(["works"], lambda line: None)
    teacher = StubTeacher(numbered)
    widening = make(teacher, count=3)
    widening.run(["works"], lambda line: None)
    assert not teacher.requests
    assert not widening.tallies


def test_an_intent_for_which_nothing_new_comes_is_left(make: Make) -> None:
    lines: list[str] = []
    teacher = StubTeacher(lambda number: "1. solved for good")
    widening = make(teacher, count=4)
    widening.run(["works"], lines.append)
    assert widening.tallies["works"].total == 1
    assert len(teacher.requests) == 1 + FRUITLESS
    assert lines[-1].startswith("works: left at 1")


def test_a_teacher_that_writes_no_list_is_given_up(make: Make, path: Path) -> None:
    teacher = StubTeacher(lambda number: "I am a language model." if number > 1 else numbered(1))
    with pytest.raises(TeacherError, match="stub writes no list"):
        make(teacher, count=9).run(["works", "fails"], lambda line: None)
    assert len(teacher.requests) == 1 + LISTLESS
    assert len(WidenedBank(path).wordings("works")) == 3


def test_a_teacher_of_which_nothing_can_be_used_is_an_error(make: Make) -> None:
    with pytest.raises(TeacherError, match=r"nothing that stub wrote can be used \(duplicate 10\)"):
        make(StubTeacher(lambda number: "1. it works\n2. yes fine"), count=4).run(
            ["works"], lambda line: None
        )


def test_the_same_seed_asks_the_same(make: Make) -> None:
    first, second, other = (StubTeacher(lambda number: "1. it works") for _ in range(3))
    for teacher, seed in ((first, 0), (second, 0), (other, 1)):
        with pytest.raises(TeacherError):
            make(teacher, count=4, seed=seed, samples=1).run(["works"], lambda line: None)
    assert (first.requests, first.seeds) == (second.requests, second.seeds)
    assert first.seeds != other.seeds
