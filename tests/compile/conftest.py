"""A small procedure with its banks, and an agent that follows a procedure from the prompt alone."""

import json
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.compile.dialogue import gold_turn
from subterra.compile.node_reader import NodeReader
from subterra.compile.policy import Message, Move, State, move, opening
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import Recipe, assistant_text
from subterra.compile.rollout import Conversation, Plan, rollout
from subterra.compile.scenario import Scenario
from subterra.compile.score import draw_scenarios
from subterra.compile.speech import reply as speak
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure
from subterra.compile.wording import WordingSource, placeholders
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import Choose

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"
ROOM = 1 << 20
"""Context tokens of an agent without a cache."""

KETTLE = """\
name: kettle
title: Kettle help
system: You mend kettles.
start: hello
slots:
  fault: {about: what is wrong, values: [leak, cold], decided_at: sort}
  owner: {about: who asks, decided_at: sort}
flags:
  retried: the second step was given
intents:
  say_leak: {about: it leaks, sets: {fault: leak}}
  say_cold: {about: it stays cold, sets: {fault: cold}}
  give_owner: {about: the name}
  works: {about: it helped}
  fails: {about: it did not help}
  stop: {about: no more}
corrections:
  take_back: {about: another fault or name}
asides:
  chat: {about: chatting, say: [Nice.]}
  once_more: {about: not understood, repeats: true, say: [Again.]}
nodes:
  hello:
    {kind: agent, asks: [fault, owner], say: ["Leak or cold, and who?"], again: [So?], next: sort}
  sort:
    kind: hub
    edges:
      - {to: gone, condition: no more, intents: [stop]}
      - {to: ask, condition: no fault yet, slots: {fault: null}}
      - {to: ask, condition: no name yet, slots: {owner: null}}
      - to: mend
        condition: all is known
        intents: [say_leak, say_cold, give_owner, take_back]
    default: ask
  ask:
    kind: agent
    asks: [fault, owner]
    say: [{when: {fault: null}, text: ["Leak or cold?"]}, "Your name?"]
    next: sort
  mend:
    kind: agent
    mandatory: true
    clears: [retried]
    say: ["First. {fact} Better?", "Well. {fact} Good?"]
    again: ["Did the first step help?"]
    facts:
      - {when: {fault: leak}, text: Dry the ring.}
      - {when: {fault: cold}, text: Press the fuse.}
    next: check
  check:
    kind: hub
    edges:
      - {to: gone, condition: no more, intents: [stop]}
      - {to: done, condition: it helped, intents: [works]}
      - {to: retry, condition: not yet, intents: [fails], flags: {retried: false}}
      - {to: gone, condition: not again, intents: [fails], flags: {retried: true}}
    default: retry
  retry:
    kind: agent
    mandatory: true
    sets: [retried]
    say: ["Second. {fact} Now?"]
    facts: [Boil it empty twice.]
    next: check
  done:
    {kind: terminal, mandatory: true, outcome: success, say: ["{fact} Bye."], facts: [Solved.]}
  gone:
    {kind: terminal, mandatory: true, outcome: abandoned, say: ["{fact} Bye."], facts: [Open.]}
"""

TRAIN = """\
say_leak: [it leaks, water below, "wet table, {owner} here", "drops all over says {owner}"]
say_cold: [it stays cold, no heat, "cold tea for {owner}", "{owner} here and not hot"]
give_owner: ["I am {owner}", "{owner} is my name", "{fault} at {owner}'s", "{owner} has {fault}"]
works: [it works, yes fine]
fails: [still bad, no change]
stop: [forget it, I give up]
take_back: ["no, I meant {fault}", "sorry, {fault}", "the name is {owner}", "not so, {owner}"]
chat: [lovely day, how are you]
once_more: [say again, pardon]
works+chat: [works and you are nice, fixed my friend]
fails+stop: [no and I stop, useless bye]
slots:
  fault: {leak: [a leak, dripping, a puddle], cold: [coldness, no warmth, chill]}
  owner: {Anna: [Anna, Ann], Ben: [Ben, Benny], Cleo: [Cleo, Clea]}
"""

HELDOUT = """\
say_leak: ["there is a flood", "{owner} sees a flood"]
say_cold: ["my tea freezes", "{owner} freezes"]
give_owner: ["this is {owner}", "{owner} reporting {fault}"]
works: [great now]
fails: [same as before]
stop: [I am out]
take_back: ["wrong, {fault}", "wrong, {owner}"]
chat: [what weather]
once_more: [come again]
slots:
  fault: {leak: [wetness, the flood], cold: [ice, the frost]}
  owner: {Dora: [Dora, Dorothea], Emil: [Emil, Emilio]}
"""

Behaviour = Callable[[Procedure, State, Message], Move]
Speech = Callable[[Procedure, Move, random.Random], str]
Talk = Callable[..., list[Conversation]]


@pytest.fixture(scope="session")
def zoom() -> Procedure:
    return load_procedure(EXAMPLE)


@pytest.fixture(scope="session")
def zoom_bank(zoom: Procedure) -> UserBank:
    """Return the held-out bank, in which every message has one meaning."""
    return load_bank(EXAMPLE / "users" / "heldout.yaml", zoom)


@pytest.fixture(scope="session")
def kettle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kettle")
    (folder / "users").mkdir()
    (folder / "procedure.yaml").write_text(KETTLE)
    (folder / "users" / "train.yaml").write_text(TRAIN)
    (folder / "users" / "heldout.yaml").write_text(HELDOUT)
    return folder


@pytest.fixture(scope="session")
def kettle(kettle_folder: Path) -> Procedure:
    """Return a procedure with a closed and an open slot, a flag, a correction and two asides."""
    return load_procedure(kettle_folder)


@pytest.fixture(scope="session")
def kettle_bank(kettle: Procedure, kettle_folder: Path) -> UserBank:
    return load_bank(kettle_folder / "users" / "train.yaml", kettle)


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint: Path, kettle: Procedure) -> ChatTokenizer:
    return ChatTokenizer(tiny_checkpoint, ChatFormat(system=kettle.system))


class GoldEngine:
    """Replays a prompt's user messages through the policy: all it needs is in the tokens.

    `behave` and `speak` put faults in.
    """

    name = "gold"
    context_tokens = ROOM

    def __init__(
        self,
        procedure: Procedure,
        bank: UserBank,
        tokenizer: ChatTokenizer,
        *,
        recipe: Recipe = "traced",
        behave: Behaviour = move,
        speak: Speech = speak,
    ) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._procedure, self._tokenizer, self._recipe = procedure, tokenizer, recipe
        self._behave, self._speak = behave, speak
        self._meanings = meanings(procedure, bank)

    def answer(self, tokens: Sequence[int]) -> list[int]:
        step, message = opening(self._procedure), None
        for text in self._said(tokens):
            message = self._meanings[text]
            step = self._behave(self._procedure, step.state, message)
        reply = self._speak(self._procedure, step, random.Random(len(tokens)))
        turn = gold_turn(self._procedure, None, message, step, reply)
        text = assistant_text(turn, self._recipe, self._procedure.slot_names)
        return self._tokenizer.encode_text(text)

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        return iter(self.answer(tokens))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        raise NotImplementedError

    def slots(self, count: int) -> "GoldSlots":
        return GoldSlots(self, count)

    def close(self) -> None:
        pass

    def _said(self, tokens: Sequence[int]) -> Iterator[str]:
        """Yield what the user said, from the tokens of the turns."""
        turns: list[list[int]] = []
        for token in tokens:
            if token == self._tokenizer.start_of_turn_id:
                turns.append([])
            else:
                turns[-1].append(token)
        for turn in turns:
            text = self._tokenizer.decode(turn)
            if text.startswith("user\n"):
                yield text.removeprefix("user\n").removesuffix("\n")


class GoldSlots:
    """Answers the slots in turn, the last one first."""

    def __init__(self, engine: GoldEngine, count: int) -> None:
        self.count = count
        self._engine = engine
        self._waiting: dict[int, list[int]] = {}

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        assert slot not in self._waiting
        self._waiting[slot] = self._engine.answer(tokens)

    def step(self) -> list[tuple[int, list[int]]]:
        return [self._waiting.popitem()]

    def close(self) -> None:
        pass


def meanings(procedure: Procedure, bank: UserBank) -> dict[str, Message]:
    """Map every undisturbed message of the bank to its only meaning."""
    intents = {intent.name for intent in procedure.intents}
    corrections = {intent.name for intent in procedure.corrections}
    found: dict[str, Message] = {}
    for key, texts in bank.intents.items():
        for text in texts:
            for filled, slots in _fillings(text, bank):
                names = key.split("+")
                if not corrections & set(names):
                    given = [f"give_{name}" for name in procedure.slot_names if name in slots]
                    names += [name for name in given if name in intents and name not in names]
                message = Message(tuple(names), slots)
                assert found.setdefault(filled, message) == message, filled
    return found


def _fillings(text: str, bank: UserBank) -> Iterator[tuple[str, Mapping[str, str]]]:
    names = sorted(placeholders(text))
    phrases = [[(v, p) for v, held in bank.slots[n].items() for p in held] for n in names]
    for chosen in product(*phrases):
        filled = text
        for name, (_, phrase) in zip(names, chosen, strict=True):
            filled = filled.replace("{" + name + "}", phrase)
        yield filled, {name: value for name, (value, _) in zip(names, chosen, strict=True)}


@pytest.fixture
def gold_engine() -> type[GoldEngine]:
    return GoldEngine


@pytest.fixture
def talk(tokenizer: ChatTokenizer) -> Talk:
    """Let users of a procedure talk to an agent that follows it, but for the faults given."""

    def talk(
        procedure: Procedure,
        bank: UserBank,
        count: int,
        *,
        seed: int = 1,
        recipe: Recipe = "traced",
        parallel: int = 3,
        scenarios: Sequence[Scenario] | None = None,
        behave: Behaviour = move,
        speak: Speech = speak,
    ) -> list[Conversation]:
        plan = Plan(
            procedure,
            scenarios or draw_scenarios(procedure, bank, count, seed),
            lambda index: WordingSource(bank, random.Random(f"{seed}/{index}")),
            tokenizer,
            NodeReader(procedure, recipe),
            seed,
            context_tokens=ROOM,
        )
        engine = GoldEngine(procedure, bank, tokenizer, recipe=recipe, behave=behave, speak=speak)
        return rollout(plan, engine.slots(parallel))

    return talk


@pytest.fixture
def work(tmp_path: Path, kettle: Procedure, tiny_checkpoint: Path) -> Path:
    """Return a work folder with two variants that no engine has to read."""
    work = tmp_path / "work"
    (work / "merged").mkdir(parents=True)
    (work / "variants").mkdir()
    card = {
        "name": kettle.name,
        "system": kettle.system,
        "recipe": "traced",
        "base": {"id": "tiny", "sha256": "0"},
    }
    (work / "merged" / "subterra.json").write_text(json.dumps(card))
    tokenizer = (tiny_checkpoint / "tokenizer.json").read_bytes()
    (work / "merged" / "tokenizer.json").write_bytes(tokenizer)
    for name in ("Q8_0", "Q4_0"):
        (work / "variants" / f"{name}.gguf").write_bytes(b"")
    return work


class FakeServer:
    """An OpenAI-compatible server that answers what it was told to, the last answer for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append({"path": self.path, **json.loads(body)})
                outer.headers.append(dict(self.headers))
                status, data, headers = outer.answers[0]
                if len(outer.answers) > 1:
                    del outer.answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def says(self, *texts: str, finish: str = "stop") -> None:
        """Answer with these texts, one after the other."""
        for text in texts:
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
            self.fails(200, json.dumps({"choices": [choice]}))

    def fails(self, status: int, body: str = "", **headers: str) -> None:
        """Answer with this status and body."""
        self.answers.append((status, body.encode(), headers))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()
