from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from subterra.runtime import session as runtime
from subterra.runtime.errors import BundleError, UsageError
from subterra.runtime.guard import GuardStatus, Layer
from subterra.runtime.session import Session
from subterra.runtime.state_line import StateLine
from subterra.tui import agent as agent_module
from subterra.tui.agent import UNSIGNED, SealedAgent, open_agent
from subterra.tui.events import Done, Piece, State
from subterra.tui.seal import Seal

LINE = StateLine(("all_good",), "resolved", (("issue", "audio"),), ("tried",))


def stats(**changes: Any) -> runtime.TurnStats:
    values: dict[str, Any] = {
        "prompt_tokens": 9,
        "new_tokens": 3,
        "ttft_ms": 20.0,
        "first_text_ms": 50.0,
        "tokens_per_s": 110.0,
        "cancelled": False,
        "hit_limit": False,
        "truncated_turns": 0,
    }
    return runtime.TurnStats(**(values | changes))


class FakeSession:
    """Plays fixed runtime events, to show how they are translated."""

    def __init__(self, *events: runtime.Event) -> None:
        self._events = events
        self.calls: list[str] = []

    def open(self) -> Iterator[runtime.Event]:
        self.calls.append("open")
        return iter(self._events)

    def say(self, text: str) -> Iterator[runtime.Event]:
        self.calls.append(text)
        return iter(self._events)

    def cancel(self) -> None:
        self.calls.append("cancel")

    def reset(self) -> None:
        self.calls.append("reset")


def sealed(session: FakeSession, terminals: tuple[str, ...] = ("resolved",)) -> SealedAgent:
    return SealedAgent(
        cast(Session, session), title="Zoom", variant="Q8_0", seal=Seal(), terminals=terminals
    )


def test_events_of_the_session_are_translated() -> None:
    session = FakeSession(
        runtime.StateShown(LINE, "all good > resolved | audio | tried"),
        runtime.TextDelta("Good."),
        runtime.Done(stats()),
    )
    assert list(sealed(session).open()) == [
        State(
            "all good > resolved | audio | tried",
            "resolved",
            ("all_good",),
            (("issue", "audio"),),
            ("tried",),
        ),
        Piece("Good."),
        Done(3, 50.0, 110.0, ended=True),
    ]


def test_a_malformed_state_line_keeps_its_text_and_ends_nothing() -> None:
    session = FakeSession(runtime.StateShown(None, "all good resolved"), runtime.Done(stats()))
    state, done = sealed(session).open()
    assert state == State("all good resolved")
    assert isinstance(done, Done)
    assert not done.ended


def test_a_cancelled_or_open_turn_does_not_end_the_conversation() -> None:
    shown = runtime.StateShown(LINE, "x")
    cancelled = FakeSession(shown, runtime.Done(stats(cancelled=True)))
    assert not cast(Done, list(sealed(cancelled).open())[-1]).ended
    elsewhere = FakeSession(shown, runtime.Done(stats()))
    assert not cast(Done, list(sealed(elsewhere, ("escalated",)).open())[-1]).ended


def test_what_was_not_measured_is_none() -> None:
    session = FakeSession(runtime.Done(stats(first_text_ms=0.0, tokens_per_s=0.0)))
    (done,) = sealed(session).open()
    assert done == Done(3, None, None)


def test_dropped_turns_and_cut_replies_are_said() -> None:
    session = FakeSession(runtime.Done(stats(truncated_turns=3, hit_limit=True)))
    (done,) = sealed(session).open()
    assert isinstance(done, Done)
    assert "first 3 exchanges" in done.notices[0]
    assert "cut" in done.notices[1]


def test_speaking_before_the_agent_has_is_refused_with_a_way_on() -> None:
    session = FakeSession(runtime.Done(stats(cancelled=True)))
    agent = sealed(session)
    list(agent.open())
    with pytest.raises(UsageError) as caught:
        list(agent.say("hello"))
    assert "Ctrl+R" in caught.value.hint
    assert session.calls == ["open"]


def test_cancel_and_reset_reach_the_session() -> None:
    session = FakeSession(runtime.TextDelta("Hello."))
    agent = sealed(session)
    list(agent.open())
    list(agent.say("hi"))
    agent.cancel()
    agent.reset()
    assert session.calls == ["open", "hi", "cancel", "reset"]


def test_a_missing_bundle_is_two_lines_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught, open_agent(tmp_path / "none.agent", guard="off"):
        pass
    assert caught.value.hint


class Steps:
    """Stands in for bundle, guard and engine, to show in which order they are used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, signed: bool, broken: str = "") -> None:
        self.taken: list[str] = []
        self._signed = signed
        self._broken = broken
        for name in ("open_bundle", "lock_down", "open_engine"):
            monkeypatch.setattr(agent_module, name, getattr(self, name))
        monkeypatch.setattr(agent_module, "ChatTokenizer", lambda _path, chat: _Tokenizer(chat))
        monkeypatch.setattr(agent_module, "Session", lambda *_args, **_options: FakeSession())

    def open_bundle(self, path: Path, **_options: object) -> SimpleNamespace:
        self.taken.append("verify")
        chosen = SimpleNamespace(name="Q8_0", engine="onnxruntime", path="onnx-int8")
        manifest = SimpleNamespace(
            title="Zoom", name="zoom", system="s", context_tokens=64, recipe="traced", slots=(),
            terminals=("resolved",), max_reply_tokens=8,
        )  # fmt: skip
        return SimpleNamespace(
            path=path,
            manifest=manifest,
            tokenizer=path,
            signer=object() if self._signed else None,
            variant=lambda _name: chosen,
            table=None,
        )

    def lock_down(self, *, read: list[Path], write: list[Path], mode: str) -> GuardStatus:
        self.taken.append(f"lock {[p.name for p in read]} {[p.name for p in write]}")
        layers = tuple(Layer(n, n != self._broken, "") for n in ("seccomp", "landlock"))
        return GuardStatus(cast(Any, mode), layers if mode != "off" else (), 2, 2)

    def open_engine(self, *_args: object, **_options: object) -> "Steps":
        self.taken.append("load")
        return self

    def close(self) -> None:
        self.taken.append("close")


class _Tokenizer:
    def __init__(self, chat: object) -> None:
        self.chat = chat


def test_the_process_is_locked_down_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = Steps(monkeypatch, signed=True)
    with open_agent(tmp_path / "zoom.agent", export_folder=tmp_path) as agent:
        assert agent.seal == Seal(("seccomp", "landlock"))
        assert agent.export_folder == tmp_path
        assert agent.warnings == ()
    assert steps.taken == ["verify", f"lock ['zoom.agent'] ['{tmp_path.name}']", "load", "close"]


def test_missing_layers_and_signatures_are_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Steps(monkeypatch, signed=False, broken="landlock")
    with open_agent(tmp_path, guard="best-effort", allow_unsigned=True) as agent:
        assert agent.seal == Seal(("seccomp",), ("landlock",))
        assert agent.warnings == (UNSIGNED,)
        assert agent.export_folder is None


def test_without_a_guard_nothing_is_called_sealed_and_any_folder_is_writable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Steps(monkeypatch, signed=True)
    monkeypatch.chdir(tmp_path)
    with open_agent(tmp_path, guard="off") as agent:
        assert agent.seal == Seal()
        assert agent.export_folder == tmp_path
