"""The teacher `bank`: dialogues from the files alone, seeded, offline.

Goes in: a procedure, a user bank, a seed. Comes out: gold dialogues, without end. A simulated user
talks to the policy; both take their wording from the files.

    >>> next(dialogues(procedure, bank, seed=0)).turns[0].node
    'welcome'
"""

import random
from collections.abc import Iterator

from subterra.compile.dialogue import Dialogue, gold_turn
from subterra.compile.paths import acyclic_paths
from subterra.compile.policy import move, opening
from subterra.compile.procedure import Procedure
from subterra.compile.scenario import Scenario, Temper, User, scenarios
from subterra.compile.speech import reply
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import TRAINING, Noise, WordingSource
from subterra.runtime.errors import ProcedureError

TEMPER = Temper(fresh=0.5)
MAX_TURNS = 40
"""A dialogue longer than this is cut; no path of a sensible procedure comes near it."""


def dialogues(
    procedure: Procedure,
    bank: UserBank,
    seed: int,
    *,
    noise: Noise = TRAINING,
    temper: Temper = TEMPER,
) -> Iterator[Dialogue]:
    """Yield gold dialogues without end; the same seed gives the same dialogues."""
    rng = random.Random(seed)
    paths = agent_paths(procedure)
    source = WordingSource(bank, rng, noise)
    for scenario in scenarios(procedure, bank, paths, rng, temper):
        yield _live(procedure, source, scenario, rng)


def agent_paths(procedure: Procedure) -> list[tuple[str, ...]]:
    """List the acyclic paths without their hubs, each sequence once.

    Raises:
        ProcedureError: there is none.
    """
    agents = {node.name for node in procedure.nodes if node.kind != "hub"}
    shortened = (tuple(n for n in path if n in agents) for path in acyclic_paths(procedure))
    found = list(dict.fromkeys(shortened))
    if not found:
        raise ProcedureError(
            f"no path of {procedure.name} leads to an end: along each one the tests disagree, or a"
            " node comes twice",
            hint="look at the edges and their tests: subterra show PROCEDURE",
        )
    return found


def _live(
    procedure: Procedure, source: WordingSource, scenario: Scenario, rng: random.Random
) -> Dialogue:
    user = User(procedure, source, scenario, rng)
    step = opening(procedure)
    turns = [gold_turn(procedure, None, None, step, reply(procedure, step, rng))]
    while procedure.node(step.state.node).kind != "terminal" and len(turns) < MAX_TURNS:
        said = user.say(step.state.node, step.state.flags, step.state.slots)
        step = move(procedure, step.state, said.message)
        answer = reply(procedure, step, rng)
        turns.append(gold_turn(procedure, said.text, said.message, step, answer))
    return Dialogue(scenario.path, tuple(turns))
