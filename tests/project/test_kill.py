"""Stages killed with SIGKILL: before each change of the file system, and at random moments.

Whatever is killed, the target is the complete old artefact or the complete new one (absent where
there was none), and running again completes and leaves nothing else behind.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from subterra.compile.user_bank import load_bank
from subterra.quantize.variants import VARIANTS
from subterra.runtime.bundle import open_bundle

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "zoom_support"
SERVER = Path(__file__).with_name("kill_server.py")
PRELOADED = ("torch", "safetensors.torch", "gguf", "onnxruntime", "subterra.quantize.build")
FOR_TRAINING = ("peft", "transformers.models.llama.modeling_llama", "subterra.compile.train")
MOST_OPERATIONS = 400
REPORTED = ("md", "html", "json")


class Server:
    """Forks command lines and kills them."""

    def __init__(self, home: Path, preloaded: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "stderr").open("w"),
            text=True,
            cwd=ROOT,
            env={**os.environ, "SUBTERRA_HOME": str(home), "OMP_NUM_THREADS": "1"},
        )
        self._errors = home / "stderr"

    def run(self, arguments: list[str], *, until: int = 0) -> int:
        """Run to the end, or until the fork kills itself; return the exit code or -9."""
        self._start(arguments, until)
        return self._answer()

    def run_for(self, arguments: list[str], seconds: float) -> int:
        """Run and kill after some seconds; return the exit code or -9."""
        child = self._start(arguments, 0)
        time.sleep(seconds)
        for kill in (os.kill, os.killpg):  # the group takes what the fork has started with it
            with suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        return self._answer()

    def complete(self, arguments: list[str]) -> None:
        assert self.run(arguments) == 0, self._errors.read_text()[-2000:]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _start(self, arguments: list[str], until: int) -> int:
        assert self._process.stdin is not None
        request = {"arguments": arguments, "until": until}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@dataclass(frozen=True)
class Stage:
    """A command, where it starts from, and what its artefacts look like before and after."""

    server: Server
    start: Path
    """Work folder with the old artefacts and new inputs."""
    arguments: Callable[[Path], list[str]]
    artefacts: Callable[[Path], dict[str, str]]
    """Digest of each artefact that is there, by name."""
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)

    def trial(self, folder: Path, kill: Callable[[list[str]], int]) -> bool:
        """Run, kill, check, run again, check; tell whether it was killed."""
        shutil.copytree(self.start, folder, symlinks=True)
        arguments = self.arguments(folder)
        code = kill(arguments)
        assert code in (0, -signal.SIGKILL)
        found = self.artefacts(folder)
        for name in self.old.keys() | self.new.keys() | found.keys():
            assert found.get(name) in (self.old.get(name), self.new.get(name)), name
        self.server.complete(arguments)
        assert self.artefacts(folder) == self.new
        assert leftovers(folder) == []
        shutil.rmtree(folder)
        return code != 0

    def before_every_operation(self, scratch: Path, *, step: int = 1) -> None:
        """Kill before the first change of the file system, before the second, and so on."""
        for until in range(1, MOST_OPERATIONS, step):
            kill = partial(self.server.run, until=until)
            if not self.trial(scratch / f"operation{until}", kill):
                assert until > 4
                return
        pytest.fail("the stage never completed")

    def at_random_moments(self, scratch: Path, times: int) -> None:
        """Kill at moments spread over the time that the stage takes."""
        begin = time.monotonic()
        self.trial(scratch / "whole", self.server.run)
        duration = (time.monotonic() - begin) / 2
        rng = random.Random(0)
        for number in range(times):
            kill = partial(self.server.run_for, seconds=rng.uniform(0, duration))
            self.trial(scratch / f"moment{number}", kill)


def leftovers(folder: Path) -> list[str]:
    found = (path.name for path in folder.rglob(".*"))
    return [name for name in found if name.endswith((".part", ".old", ".pt"))]


def digest(path: Path) -> str:
    """Digest a file, or the names and contents of a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{digest(file)} {file.relative_to(path)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def digests(*names: str) -> Callable[[Path], dict[str, str]]:
    return lambda work: {name: digest(work / name) for name in names if (work / name).exists()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("home"), PRELOADED)
    yield running
    running.close()


@pytest.fixture
def training_server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "home").mkdir()
    running = Server(tmp_path / "home", (*PRELOADED, *FOR_TRAINING))
    yield running
    running.close()


@pytest.fixture(scope="module")
def merged(
    server: Server,
    tiny_checkpoint: Path,
    write_adapter: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """Return two work folders with merged models of the same base and different adapters."""
    folders = []
    for seed in (1, 2):
        work = tmp_path_factory.mktemp("merged") / "work"
        write_adapter(work / "adapter", tiny_checkpoint, seed)
        server.complete(["merge", str(work), "--base", str(tiny_checkpoint)])
        folders.append(work)
    return folders[0], folders[1]


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_merge(
    server: Server, merged: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, again: bool
) -> None:
    old, new = merged
    start = tmp_path / "start"
    shutil.copytree(new / "adapter", start / "adapter")
    if again:
        shutil.copytree(old / "merged", start / "merged")
    artefacts = digests("merged")
    stage = Stage(
        server,
        start,
        lambda work: ["merge", str(work), "--base", str(tiny_checkpoint)],
        artefacts,
        old=artefacts(start),
        new=artefacts(new),
    )
    assert stage.old != stage.new
    stage.before_every_operation(tmp_path)
    stage.at_random_moments(tmp_path, 3)


def variant_digests(*names: str) -> Callable[[Path], dict[str, str]]:
    """Digest variants; a record must belong to the file beside it, or not be there."""
    files = digests(*(f"variants/{VARIANTS[name].file_name}" for name in names))

    def artefacts(work: Path) -> dict[str, str]:
        current = digest(work / "merged" / "model.safetensors")
        for name in names:
            record = VARIANTS[name].record_path(work)
            if record.is_file() and json.loads(record.read_text())["checkpoint_sha256"] == current:
                assert VARIANTS[name].path(work).exists()
        return files(work)

    return artefacts


def quantize_stage(
    server: Server, merged: tuple[Path, Path], scratch: Path, names: tuple[str, ...]
) -> Stage:
    """Return the stage that replaces the variants of one merged model by those of another."""
    works = []
    for number, source in enumerate(merged):
        work = scratch / f"source{number}"
        shutil.copytree(source, work)
        server.complete(["quantize", str(work), "--variants", ",".join(names)])
        works.append(work)
    old, new = works
    start = scratch / "start"
    shutil.copytree(new, start)
    shutil.rmtree(start / "variants")
    shutil.copytree(old / "variants", start / "variants")
    artefacts = variant_digests(*names)
    return Stage(
        server,
        start,
        lambda work: ["quantize", str(work), "--variants", ",".join(names)],
        artefacts,
        old=artefacts(old),
        new=artefacts(new),
    )


def test_quantize_gguf(server: Server, merged: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    stage = quantize_stage(server, merged, tmp_path, ("F16", "Q8_0"))
    assert not set(stage.old.values()) & set(stage.new.values())
    stage.before_every_operation(tmp_path, step=2)
    stage.at_random_moments(tmp_path, 3)


@pytest.mark.slow
def test_quantize_onnx(server: Server, merged: tuple[Path, Path], tmp_path: Path) -> None:
    stage = quantize_stage(server, merged, tmp_path, ("onnx-fp32", "onnx-int8"))
    stage.before_every_operation(tmp_path, step=40)
    stage.at_random_moments(tmp_path, 2)


def sealable(merged: Path, start: Path) -> Path:
    """Return a work folder whose variants are no models; sealing copies and hashes them."""
    shutil.copytree(merged, start)
    (start / "variants").mkdir()
    for name in ("Q8_0", "Q4_0"):
        (start / "variants" / f"{name}.gguf").write_bytes(name.encode() * 100)
        checkpoint = digest(start / "merged" / "model.safetensors")
        record = {"checkpoint_sha256": checkpoint}
        (start / "variants" / f"{name}.json").write_text(json.dumps(record))
    return start


@pytest.mark.parametrize(
    "again", [pytest.param(False, marks=pytest.mark.slow), True], ids=["first", "again"]
)
def test_seal(server: Server, merged: tuple[Path, Path], tmp_path: Path, again: bool) -> None:
    def command(work: Path) -> list[str]:
        return ["seal", str(work), "--procedure", str(EXAMPLE / "procedure.yaml")]

    def artefacts(work: Path) -> dict[str, str]:
        agent = work / "zoom_support.agent"
        if agent.exists():
            open_bundle(agent)
        return digests("zoom_support.agent")(work)

    start = sealable(merged[0], tmp_path / "start")
    if again:
        server.complete([*command(start), "--variant", "Q8_0"])
    whole = tmp_path / "complete"
    shutil.copytree(start, whole)
    server.complete(command(whole))
    stage = Stage(server, start, command, artefacts, old=artefacts(start), new=artefacts(whole))
    stage.before_every_operation(tmp_path, step=3 if again else 1)
    stage.at_random_moments(tmp_path, 3)


@pytest.mark.slow
def test_report(server: Server, merged: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    start = tmp_path / "start"
    shutil.copytree(merged[0], start)
    turns = [{"user": None, "intents": ["start"], "node": "welcome", "slots": {"device": None}}]
    turns[0] |= {"flags": [], "reply": "the sound and the video"}
    (start / "heldout.jsonl").write_text(json.dumps({"path": ["welcome"], "turns": turns}) + "\n")
    server.complete(["quantize", str(start), "--variants", "F16,Q8_0"])

    def command(work: Path) -> list[str]:
        return ["report", str(work), "--dialogues", str(work / "heldout.jsonl")]

    server.complete(command(start))
    old = digest(start / "report")

    def artefacts(work: Path) -> dict[str, str]:
        """Times are measured, so that a new report is known by being whole and not the old one."""
        folder = work / "report"
        if digest(folder) == old:
            return {"report": "old"}
        assert {file.name for file in folder.iterdir()} == {f"report.{e}" for e in REPORTED}
        assert "recommendation" in json.loads((folder / "report.json").read_text())
        assert (folder / "report.html").read_text().rstrip().endswith("</html>")
        assert (folder / "report.md").read_text().endswith("\n")
        before = {digest(start / "report" / file.name) for file in folder.iterdir()}
        assert not before & {digest(file) for file in folder.iterdir()}
        return {"report": "new"}

    stage = Stage(server, start, command, artefacts, old={"report": "old"}, new={"report": "new"})
    stage.before_every_operation(tmp_path, step=8)
    stage.at_random_moments(tmp_path, 1)


def small_example(folder: Path, wordings: int = 12) -> Path:
    """Return the Zoom example with the first wordings of each intent; it is read much faster."""
    bank = load_bank(EXAMPLE / "users" / "train.yaml")
    document: dict[str, object] = {key: texts[:wordings] for key, texts in bank.intents.items()}
    document["slots"] = {slot: dict(values) for slot, values in bank.slots.items()}
    (folder / "users").mkdir(parents=True)
    shutil.copyfile(EXAMPLE / "procedure.yaml", folder / "procedure.yaml")
    (folder / "users" / "train.yaml").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_compile(training_server: Server, tiny_checkpoint: Path, tmp_path: Path) -> None:
    example = small_example(tmp_path / "example")

    def command(work: Path, seed: int = 0) -> list[str]:
        options: dict[str, object] = {"base": tiny_checkpoint, "out": work, "seed": seed}
        options |= {"dialogues": 8, "rank": 2, "rate": 0.01}
        words = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return ["compile", str(example), *words]

    def artefacts(work: Path) -> dict[str, str]:
        """The card holds a speed; a killed and resumed run gives the weights of a whole one."""
        if (work / "adapter").exists():
            card = json.loads((work / "adapter" / "subterra.json").read_text())
            assert card["chosen_step"] >= 1
        return digests("adapter/adapter_model.safetensors", "adapter/adapter_config.json")(work)

    start, whole = tmp_path / "start", tmp_path / "complete"
    training_server.complete(command(start, seed=1))
    training_server.complete(command(whole))
    stage = Stage(
        training_server, start, command, artefacts, old=artefacts(start), new=artefacts(whole)
    )
    assert stage.old != stage.new
    stage.before_every_operation(tmp_path, step=8)
    stage.at_random_moments(tmp_path, 2)
