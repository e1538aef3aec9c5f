"""Every name that a procedure mentions exists and is of the right kind.

Goes in: a procedure and its document. Comes out: problems. Does not know reachability or wording.

    >>> list(reference_problems(procedure, document))
    []
"""

from collections.abc import Iterator, Mapping

from subterra.compile.procedure import CORRECTION, Edge, Node, NodeKind, Procedure, When
from subterra.compile.yaml_source import Document, Problem, Steps, closest


def reference_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Yield unknown names and targets of the wrong kind."""
    return _References(procedure, document).problems()


class _References:
    def __init__(self, procedure: Procedure, document: Document) -> None:
        self._procedure = procedure
        self._document = document
        self._kinds = {node.name: node.kind for node in procedure.nodes}
        self._values = {slot.name: slot.values for slot in procedure.slots}
        self._asides = {aside.name for aside in procedure.asides}
        self._intents = [intent.name for intent in procedure.intents]
        self._intents += [intent.name for intent in procedure.corrections]

    def problems(self) -> Iterator[Problem]:
        """Yield the problems, section by section."""
        start = self._procedure.start
        if start and self._kinds:
            why = "the agent opens the conversation, so it starts at an agent node"
            yield from self._target(("start",), start, ("agent",), why)
        for slot in self._procedure.slots:
            if slot.decided_at and self._kinds:
                why = "a changed value is decided at a hub"
                steps = ("slots", slot.name, "decided_at")
                yield from self._target(steps, slot.decided_at, ("hub",), why)
        yield from self._acts()
        for intent in self._procedure.intents:
            tests = dict(intent.sets)
            yield from self._slot_tests(("intents", intent.name, "sets"), tests)
        for node in self._procedure.nodes:
            yield from self._node(node)

    def _acts(self) -> Iterator[Problem]:
        corrections = {intent.name for intent in self._procedure.corrections}
        for name, act in self._procedure.acts().items():
            if (act == CORRECTION) == (name in corrections):
                continue
            section = "asides" if name in self._asides else "intents"
            words = f"act '{CORRECTION}' is for corrections, and '{name}' is none"
            if name in corrections:
                section, words = "corrections", f"a correction's act is '{CORRECTION}', not '{act}'"
            yield self._document.problem((section, name, "act"), words)

    def _node(self, node: Node) -> Iterator[Problem]:
        steps: Steps = ("nodes", node.name)
        if node.kind == "agent" and node.next:
            why = "after an agent node a hub decides on the user's answer"
            yield from self._target((*steps, "next"), node.next, ("hub",), why)
        yield from self._known((*steps, "asks"), node.asks, "slot", tuple(self._values))
        yield from self._known((*steps, "sets"), node.sets, "flag", self._procedure.flags)
        yield from self._known((*steps, "clears"), node.clears, "flag", self._procedure.flags)
        for key, count in (("say", len(node.say)), ("facts", len(node.facts))):
            if count:
                yield from self._blocks((*steps, key))
        if node.kind == "hub":
            why = "a hub leads to agent and terminal nodes"
            if node.default:
                at = (*steps, "default")
                yield from self._target(at, node.default, ("agent", "terminal"), why)
            for index, edge in enumerate(node.edges):
                yield from self._edge((*steps, "edges", index), edge)

    def _edge(self, steps: Steps, edge: Edge) -> Iterator[Problem]:
        if edge.to:
            why = "a hub leads to agent and terminal nodes"
            yield from self._target((*steps, "to"), edge.to, ("agent", "terminal"), why)
        for index, name in enumerate(edge.intents):
            at = (*steps, "intents", index)
            if name in self._asides:
                words = f"'{name}' is an aside, answered without leaving the node; no edge takes it"
                yield self._document.problem(at, words)
            elif name not in self._intents:
                words = f"unknown intent '{name}'{closest(name, self._intents)}"
                yield self._document.problem(at, words)
        yield from self._tests(steps, edge.when)

    def _tests(self, steps: Steps, when: When) -> Iterator[Problem]:
        yield from self._slot_tests((*steps, "slots"), dict(when.slots))
        for name, _ in when.flags:
            if name not in self._procedure.flags:
                words = f"unknown flag '{name}'{closest(name, self._procedure.flags)}"
                yield self._document.problem((*steps, "flags", name), words, key=True)

    def _blocks(self, steps: Steps) -> Iterator[Problem]:
        """Check the `when` of each block, by its place in the file (bare texts stand between)."""
        blocks = self._document.root.at(steps)
        for index, block in enumerate(blocks.items() if blocks else []):
            when = block.at(("when",))
            if when is not None and isinstance(when.content, dict):
                tests = {name: value.plain() for name, value in when.content.items()}
                yield from self._slot_tests((*steps, index, "when"), tests)

    def _slot_tests(self, steps: Steps, tests: Mapping[str, object]) -> Iterator[Problem]:
        for name, value in tests.items():
            values = self._values.get(name)
            if values is None:
                words = f"unknown slot '{name}'{closest(name, tuple(self._values))}"
                yield self._document.problem((*steps, name), words, key=True)
            elif values and value is not None and value not in values:
                words = f"slot '{name}' has no value '{value}'{closest(str(value), values)}"
                yield self._document.problem((*steps, name), words)

    def _known(
        self, steps: Steps, names: tuple[str, ...], noun: str, known: tuple[str, ...]
    ) -> Iterator[Problem]:
        for index, name in enumerate(names):
            if name not in known:
                words = f"unknown {noun} '{name}'{closest(name, known)}"
                yield self._document.problem((*steps, index), words)

    def _target(
        self, steps: Steps, name: str, kinds: tuple[NodeKind, ...], why: str
    ) -> Iterator[Problem]:
        kind = self._kinds.get(name)
        if name not in self._kinds:
            words = f"unknown node '{name}'{closest(name, tuple(self._kinds))}"
            yield self._document.problem(steps, words)
        elif kind and kind not in kinds:
            article = "an" if kind == "agent" else "a"
            yield self._document.problem(steps, f"'{name}' is {article} {kind}; {why}")
