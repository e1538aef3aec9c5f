"""The proof: controls first, then the guard; and that it does not flatter."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from subterra.runtime import prove as prove_module
from subterra.runtime.cli import main
from subterra.runtime.egress import ROUTES
from subterra.runtime.errors import GuardError
from subterra.runtime.guard import missing_layers
from subterra.runtime.prove import prove, table
from subterra.runtime.receivers import Receivers

pytestmark = pytest.mark.skipif(bool(missing_layers()), reason="; ".join(missing_layers()))
ESSENTIAL = {route.name for route in ROUTES if route.essential}


@pytest.fixture(scope="session")
def tiny_agent(
    tiny_checkpoint: Path, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Seal the tiny model."""
    from subterra.quantize.seal import seal
    from subterra.runtime.signing import SigningKey

    work = tmp_path_factory.mktemp("work") / "tiny"
    shutil.copytree(tiny_checkpoint, work / "merged")
    note = {
        "name": "tiny",
        "base": {"id": "tiny", "sha256": "a" * 64},
        "adapter_sha256": "b" * 64,
        "recipe": "plain",
        "system": "You are tiny.",
    }
    (work / "merged" / "subterra.json").write_text(json.dumps(note))
    (work / "variants").mkdir()
    shutil.copyfile(tiny_gguf, work / "variants" / "F16.gguf")
    (work / "variants" / "F16.json").write_text("{}")
    home = os.environ.get("SUBTERRA_HOME")
    os.environ["SUBTERRA_HOME"] = str(work / "keys")
    try:
        example = Path("examples/zoom_support/procedure.yaml").resolve()
        return seal(work, example, SigningKey.generate())
    finally:
        if home is None:
            del os.environ["SUBTERRA_HOME"]
        else:
            os.environ["SUBTERRA_HOME"] = home


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the command of the child with the made-up conversation."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return [sys.executable, str(Path(__file__).with_name("proof_case.py"))]


def test_the_real_engine_is_sealed_and_every_essential_control_arrives(
    tiny_agent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    assert main(["prove", str(tiny_agent), "--json"]) == 0
    out, err = capsys.readouterr()
    proof = json.loads(out)
    assert proof["verdict"] == "sealed"
    routes = {route["name"]: route for route in proof["routes"]}
    assert routes.keys() >= ESSENTIAL
    assert all(route["control_arrived"] for route in routes.values())
    assert not any(route["guarded_arrived"] for route in routes.values())
    assert {route["stopped_by"] for route in routes.values()} == {
        "seccomp",
        "landlock",
        "descriptors",
    }
    assert proof["threads_filtered"] == proof["threads"] >= 2
    assert min(proof["turns"].values()) >= 4
    assert len(proof["layers"]) == 5
    assert "verdict: sealed" in err
    assert "next: subterra chat" in err


def test_an_ordinary_user_gets_the_same_verdict(
    tiny_agent: Path, child: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    _open_receivers_to_others(monkeypatch)
    for folder in [tiny_agent, *tiny_agent.parents[:4]]:
        folder.chmod(folder.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)
    proof = prove(tiny_agent, "F16", child=[*child, "nobody"])
    assert proof.verdict == "sealed"
    assert {route.name for route in proof.routes} >= ESSENTIAL
    assert "raw packet" in proof.untested


def test_a_guard_that_only_claims_to_hold_is_found_out(
    tiny_agent: Path,
    child: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    leaking = prove(tiny_agent, "F16", child=[*child, "off"])
    assert {route.name for route in leaking.routes if route.outcome == "leak"} >= ESSENTIAL
    assert "ARRIVED" in table(leaking)
    monkeypatch.setattr(prove_module, "prove", lambda *_, **__: leaking)
    assert main(["prove", str(tiny_agent), "--json"]) == 6
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "leak"
    assert "a marker got out by tcp v4" in err


def test_a_control_that_does_not_arrive_is_untested_never_blocked(
    tiny_agent: Path, child: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = Receivers.arrived
    unheard: list[str] = []

    def deaf(self: Receivers, marker: str) -> bool:
        unheard.append(marker)
        return len(unheard) != 1 and arrived(self, marker)

    monkeypatch.setattr(Receivers, "arrived", deaf)
    proof = prove(tiny_agent, "F16", child=[*child, "talk"])
    assert proof.routes[0].outcome == "untested"
    assert proof.routes[0].stopped_by is None
    assert proof.verdict == "incomplete"
    assert "UNTESTED" in table(proof)


def test_an_agent_that_falls_silent_proves_nothing(tiny_agent: Path, child: list[str]) -> None:
    proof = prove(tiny_agent, "F16", child=[*child, "silent"])
    assert proof.verdict == "incomplete"
    assert sum(route.outcome == "blocked" for route in proof.routes) <= 1


def test_a_crash_of_the_engine_is_named(tiny_agent: Path, child: list[str]) -> None:
    with pytest.raises(GuardError, match=r"control arm ended with code 1: .*the engine broke"):
        prove(tiny_agent, "F16", child=[*child, "crash"])


def test_a_changed_bundle_is_refused_before_any_arm(
    tiny_agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.agent"
    shutil.copytree(tiny_agent, copy)
    (copy / "tokenizer.json").write_text("{}")
    assert main(["prove", str(copy)]) == 5
    assert main(["prove", str(tiny_agent), "--variant", "Q2_K"]) == 5
    assert "choose one of: --variant F16" in capsys.readouterr().err


def test_a_marker_of_another_route_does_not_count() -> None:
    with Receivers() as receivers:
        folder = Path(receivers.addresses().folder)
        (folder / "drop").write_text("0" * 32)
        assert receivers.arrived("0" * 32)
        assert not receivers.arrived("1" * 32)


def _open_receivers_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = Receivers.__enter__

    def opened(self: Receivers) -> Receivers:
        folder = Path(self.addresses().folder)
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o777)
            if path.is_file():
                os.chown(path, 65534, 65534)  # only a file's owner may set its times
        return enter(self)

    monkeypatch.setattr(Receivers, "__enter__", opened)
