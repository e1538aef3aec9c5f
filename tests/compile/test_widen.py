"""The verb `widen`: an endpoint that behaves or not, a stub for a local model, and what is told."""

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from subterra.compile import endpoint_http, teacher_local
from subterra.compile.general_wording import load_training_bank
from subterra.compile.teachers import Kind, Reply
from subterra.compile.validation import load_procedure
from subterra.compile.widened_bank import WidenedBank, authors
from subterra.runtime.cli import main
from subterra.runtime.errors import TeacherError, UsageError, UserBankError

KEY = "sk-secret-1234567890"
GOOD = "\n".join(f"{n}. solved {word} over" for n, word in enumerate("abcdef", 1))


@pytest.fixture
def example(kettle_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "users").mkdir()
    for name in ("procedure.yaml", "users/train.yaml", "users/heldout.yaml"):
        (tmp_path / name).write_bytes((kettle_folder / name).read_bytes())
    return tmp_path


@pytest.fixture
def bank(example: Path) -> Path:
    return example / "users" / "widened.yaml"


Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def widen(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run the verb for the intent `works`: exit code, JSON, and what it told people."""
    monkeypatch.setattr(endpoint_http, "FIRST_PAUSE", 0.0)

    def widen(*options: str, procedure: Path = example) -> tuple[int, dict[str, Any], str]:
        arguments = ["widen", str(procedure), "--intents", "works", "--json", *options]
        code = main(arguments)
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out else {}, shown.err

    return widen


@pytest.fixture
def endpoint(widen: Run, fake_server: Any) -> Run:
    """Run the verb against the fake server, agreed to."""
    options = ("--teacher", "endpoint", "--url", fake_server.url, "--model", "big")

    def endpoint(*more: str, agreed: bool = True, **named: Path) -> tuple[int, dict[str, Any], str]:
        return widen(*options, *(("--yes",) if agreed else ()), *more, **named)

    return endpoint


def test_an_endpoint_widens_a_bank_that_then_trains(
    endpoint: Run, fake_server: Any, example: Path, bank: Path
) -> None:
    fake_server.says(GOOD)
    code, found, told = endpoint("--count", "5")
    assert code == 0
    assert (found["out"], found["wordings"], found["kept"]) == (str(bank), 5, 5)
    assert found["intents"]["works"]["reject_rate"] == {
        "value": 0.0, "n": 5, "low": 0.0, "high": 0.434,
    }  # fmt: skip
    train = example / "users" / "train.yaml"
    assert f"next: subterra compile {example} --users {train} --users {bank}" in told
    (author,) = authors(bank)
    assert (author.kind, author.model, author.host) == ("endpoint", "big", "127.0.0.1")
    assert found["teachers"][0]["date"] == author.date
    procedure = load_procedure(example)
    merged = load_training_bank(train, procedure, train.with_name("heldout.yaml"), more=[bank])
    assert merged.intents["works"][-5:] == tuple(WidenedBank(bank).wordings("works"))
    assert not merged.warnings


def test_the_disclosure_is_told_before_anything_is_sent(
    endpoint: Run, fake_server: Any, bank: Path
) -> None:
    code, found, told = endpoint(agreed=False)
    assert code == UsageError.exit_code
    assert not found
    assert not fake_server.requests
    assert not bank.exists()
    for words in ("to 127.0.0.1", "model big", "'Kettle help'", "1 intents", "your own wordings"):
        assert words in told
    assert "subterra: nothing was sent\n  next: agree with --yes" in told


@pytest.mark.parametrize(("answer", "sent"), [("y\n", True), ("n\n", False), ("", False)])
def test_at_a_terminal_the_command_asks(
    endpoint: Run, fake_server: Any, monkeypatch: pytest.MonkeyPatch, answer: str, sent: bool
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    fake_server.says(GOOD)
    code, _, told = endpoint("--count", "1", agreed=False)
    assert "send it? [y/N]" in told
    assert bool(fake_server.requests) == sent
    assert code == (0 if sent else UsageError.exit_code)


def test_unencrypted_requests_are_told_of(widen: Run, bank: Path) -> None:
    options = ("--teacher", "endpoint", "--url", "http://models.example/v1", "--model", "big")
    _, _, told = widen(*options)
    assert "unencrypted: whoever is between here and models.example can read it" in told
    assert not bank.exists()


def test_the_key_comes_from_the_environment_and_stands_nowhere(
    endpoint: Run,
    fake_server: Any,
    example: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    fake_server.says(GOOD)
    _, found, told = endpoint("--key-env", "MY_KEY", "--count", "2")
    assert fake_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [path for path in example.rglob("*") if path.is_file()]
    for text in (json.dumps(found), told, *(path.read_text() for path in files)):
        assert KEY not in text


@pytest.mark.parametrize("value", ["", " ", "two words", "käse", "a\nb"])
def test_a_key_that_is_none_is_refused(
    endpoint: Run, fake_server: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    code, _, told = endpoint("--key-env", "MY_KEY")
    assert code == UsageError.exit_code
    assert "MY_KEY" in told
    assert not fake_server.requests


def test_duplicates_and_drift_are_refused_and_counted(endpoint: Run, fake_server: Any) -> None:
    fake_server.says("1. it works\n2. It works!\n3. no change in it\n4. solved for good")
    code, found, told = endpoint("--count", "2")
    assert code == 0
    works = found["intents"]["works"]
    assert works["total"] == 1
    assert works["requests"] == 6
    assert {reason: rate["n"] for reason, rate in works["rejected"].items()} == {
        "duplicate": 24,
        "other intent": 24,
    }
    assert works["rejected"]["other intent"]["value"] == 0.25
    assert "works     1     1  96%: duplicate 17, other intent 6" in told
    assert "left at 1" in told


def test_a_server_that_is_busy_and_then_well_is_waited_for(endpoint: Run, fake_server: Any) -> None:
    fake_server.fails(429)
    fake_server.fails(500)
    fake_server.says(GOOD)
    code, found, _ = endpoint("--count", "6")
    assert (code, found["kept"]) == (0, 6)


def test_a_server_that_dies_leaves_what_it_gave_and_the_next_run_goes_on(
    endpoint: Run, fake_server: Any, bank: Path
) -> None:
    fake_server.says(GOOD)
    fake_server.fails(500, "on fire")
    code, found, told = endpoint("--count", "9")
    assert code == TeacherError.exit_code
    assert not found
    assert f"on fire; 6 new wordings of this run and 0 older ones are kept in {bank}" in told
    assert "run the same command again" in told.splitlines()[-1]
    before = list(WidenedBank(bank).wordings("works"))
    fake_server.answers.clear()
    fake_server.says("\n".join(f"{n}. solved {word} twice" for n, word in enumerate("ghi", 1)))
    code, found, _ = endpoint("--count", "9")
    assert code == 0
    assert (found["kept"], found["wordings"]) == (3, 9)
    assert list(WidenedBank(bank).wordings("works"))[:6] == before
    asked = len(fake_server.requests)
    code, found, told = endpoint("--count", "9", agreed=False)
    assert (code, found["kept"], len(fake_server.requests)) == (0, 0, asked)


def test_nonsense_is_an_error_that_says_what_is_kept(endpoint: Run, fake_server: Any) -> None:
    fake_server.says(GOOD, "I cannot help with that.")
    code, _, told = endpoint("--count", "9")
    assert code == TeacherError.exit_code
    assert "big writes no list: 3 replies without an item; 6 new wordings" in told


def test_an_endpoint_that_gave_nothing_of_use_is_still_named(
    endpoint: Run, fake_server: Any, bank: Path
) -> None:
    fake_server.says("1. it works")
    code, _, told = endpoint("--count", "9")
    assert code == TeacherError.exit_code
    assert "nothing that big wrote can be used (duplicate 5)" in told
    assert authors(bank)[0].host == "127.0.0.1"


def test_held_out_wording_never_comes_in(
    endpoint: Run, fake_server: Any, example: Path, bank: Path
) -> None:
    (example / "users" / "heldout2.yaml").write_text(
        (example / "users" / "heldout.yaml").read_text().replace("great now", "all is well")
    )
    fake_server.says("1. Great now!\n2. all is WELL\n3. solved for good")
    _, found, _ = endpoint("--count", "1")
    assert found["intents"]["works"]["rejected"]["held out"]["n"] == 3
    assert list(WidenedBank(bank).wordings("works")) == ["solved for good"]
    assert "great now" not in json.dumps(fake_server.requests).lower()


def test_no_fact_and_no_node_is_sent(endpoint: Run, fake_server: Any, example: Path) -> None:
    fake_server.says("1. it works")
    endpoint("--intents", ",".join(load_procedure(example).intent_names()))
    sent = json.dumps(fake_server.requests)
    for text in ("Dry the ring", "Press the fuse", "Boil it empty", "Solved.", "retry", "sort"):
        assert text not in sent


class StubTeacher:
    """Writes the same list for ever."""

    kind: Kind = "local"
    model = "stub.gguf"
    host = ""
    closed = False

    def write(self, system: str, request: str, *, seed: int, lines: int) -> Reply:
        return Reply(GOOD)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> tuple[StubTeacher, list[tuple[Path, float]]]:
    """Put a stub in the place of the local model; what it was opened with."""
    teacher, opened = StubTeacher(), list[tuple[Path, float]]()

    def open_local(path: Path, *, temperature: float) -> StubTeacher:
        opened.append((path, temperature))
        return teacher

    monkeypatch.setattr(teacher_local, "open_local", open_local)
    monkeypatch.setattr(teacher_local, "embedded_model", lambda: Path("embedded.gguf"))
    return teacher, opened


def test_a_local_model_is_asked_for_nothing_but_its_file(
    widen: Run, stub: tuple[StubTeacher, list[tuple[Path, float]]], bank: Path
) -> None:
    code, found, told = widen("--model", "stub.gguf", "--temperature", "0.5", "--count", "3")
    assert (code, found["kept"]) == (0, 3)
    assert stub[1] == [(Path("stub.gguf"), 0.5)]
    assert stub[0].closed
    assert authors(bank)[0].kind == "local"
    assert "send" not in told
    assert "weak" not in told


def test_without_a_model_the_embedded_base_is_used_and_said_to_be_weak(
    widen: Run, stub: tuple[StubTeacher, list[tuple[Path, float]]]
) -> None:
    _, _, told = widen("--count", "3")
    assert stub[1][0][0] == Path("embedded.gguf")
    assert "the embedded base writes, which is weak" in told


def test_another_bank_and_file_may_be_named(
    widen: Run, stub: tuple[StubTeacher, list[tuple[Path, float]]], example: Path
) -> None:
    other = example / "other"
    other.mkdir()
    (example / "users" / "train.yaml").rename(other / "mine.yaml")
    out = example / "new.yaml"
    code, found, _ = widen("--users", str(other / "mine.yaml"), "--out", str(out), "--count", "2")
    assert (code, found["out"]) == (0, str(out))
    assert WidenedBank(out).size() == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--intents", "work"), "did you mean 'works'?"),
        (("--intents", ","), "names none"),
        (("--count", "0"), "--count"),
        (("--batch", "0"), "--batch"),
        (("--samples", "0"), "--samples"),
        (("--temperature", "-1"), "--temperature"),
        (("--temperature", "nan"), "--temperature"),
        (("--timeout", "0"), "--timeout"),
        (("--timeout", "inf"), "--timeout"),
        (("--url", "http://localhost"), "belong to an endpoint"),
        (("--key-env", "MY_KEY"), "belong to an endpoint"),
        (("--teacher", "endpoint", "--model", "m"), "needs --url and --model"),
        (("--teacher", "endpoint", "--url", "http://localhost"), "needs --url and --model"),
        (("--teacher", "endpoint", "--url", "x", "--model", "m"), "no http"),
        (("--teacher", "endpoint", "--url", "http://h/v1", "--model", "a\nb"), "no name"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    widen: Run,
    stub: tuple[StubTeacher, list[tuple[Path, float]]],
    bank: Path,
    options: tuple[str, ...],
    words: str,
) -> None:
    code, _, told = widen(*options)
    assert code == UsageError.exit_code
    assert words in told
    assert not bank.exists()


def test_a_held_out_bank_is_not_widened(widen: Run, example: Path) -> None:
    code, _, told = widen("--users", str(example / "users" / "heldout.yaml"))
    assert code == UsageError.exit_code
    assert "is a held-out bank" in told


def test_a_bank_that_is_not_widened_is_not_overwritten(widen: Run, example: Path) -> None:
    train = example / "users" / "train.yaml"
    before = train.read_bytes()
    code, _, told = widen("--out", str(train))
    assert code == UserBankError.exit_code
    assert "names no teacher" in told
    assert train.read_bytes() == before
