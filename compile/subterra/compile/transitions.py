"""The legal transitions of a procedure, without a word of what user or agent say.

Goes in: a procedure. Comes out: the table that constrains an agent's state lines, which a sealed
agent carries as `transitions.json`. Hubs become numbers; names of nodes, slots, flags and intents,
and the values of closed slots, stand in the state line anyway. Does not know tokens.

    >>> transition_table(procedure).nodes["welcome"].hub
    0
"""

from collections.abc import Sequence

from pydantic import ValidationError

from subterra.compile.agent_source import AgentSource
from subterra.compile.cut_bound import most_cuts
from subterra.compile.procedure import Node, Procedure
from subterra.runtime import transition_table as tables
from subterra.runtime.errors import ProcedureError, UsageError
from subterra.runtime.field_problem import first_problem
from subterra.runtime.legal_moves import CUTS_MAX
from subterra.runtime.transition_table import TransitionTable


def transition_table(procedure: Procedure) -> TransitionTable:
    """Derive the table from the graph; `policy.move` never leaves it.

    Raises:
        ProcedureError: a name or value cannot stand in a state line, there are too many, or the
            tests of the hubs could cut the slot values too often in a conversation.
    """
    try:
        table = _table(procedure)
    except ValidationError as error:
        raise _unwritable(procedure, first_problem(error)) from error
    if most_cuts(table) > CUTS_MAX:
        words = f"one message could cut the slot values more than {CUTS_MAX} times"
        raise _unwritable(procedure, f"{words}; fewer slots must be tested together at a hub")
    return table


def is_edited(compiled: str | None, procedure: Procedure) -> bool:
    """Tell whether a procedure is not the one that was compiled, by the digests of their files.

    Where one is unknown (an old card, a graph that came from no file) it counts as the same.
    """
    return None not in (compiled, procedure.sha256) and compiled != procedure.sha256


def edited_warning(name: str) -> str:
    """Say that a model is not held to a procedure that it never learnt."""
    return (
        f"warning: the procedure is not the one that {name} was compiled from, so its state lines"
        " are not held to it"
    )


def table_for(
    source: AgentSource, procedure: Procedure, *, constrained: bool = True
) -> TransitionTable | None:
    """Choose the table that an agent is scored with; None: it writes what it likes.

    A sealed agent is taken as it runs, and a work folder as it would be sealed.

    Raises:
        UsageError: its slots are not the procedure's.
        ProcedureError: the procedure has no table; see `transition_table`.
    """
    if source.slots not in (None, procedure.slot_names):
        raise UsageError(
            f"{source.name} has the slots {_listed(source.slots)}, {procedure.name} has"
            f" {_listed(procedure.slot_names)}",
            hint="score it with the procedure that it was compiled from: --procedure PATH",
        )
    if not constrained or source.recipe == "plain":
        return None
    if source.sealed:
        return source.table
    if is_edited(source.procedure_sha256, procedure):
        return None
    return transition_table(procedure)


def _listed(names: Sequence[str] | None) -> str:
    return ", ".join(names or ()) or "none"


def _unwritable(procedure: Procedure, words: str) -> ProcedureError:
    return ProcedureError(
        f"the transitions of {procedure.name} cannot be written: {words}",
        hint="mend procedure.yaml, or go without: --unconstrained (report, score, seal)",
    )


def _table(procedure: Procedure) -> TransitionTable:
    hubs = {node.name: index for index, node in enumerate(procedure.of_kind("hub"))}
    speakers = [node for node in procedure.nodes if node.kind != "hub"]
    return TransitionTable(
        start=procedure.start,
        slots=tuple(
            tables.Slot(name=slot.name, values=slot.values, hub=hubs[slot.decided_at])
            for slot in procedure.slots
        ),
        flags=procedure.flags,
        intents={intent.name: dict(intent.sets) for intent in procedure.intents},
        corrections=tuple(intent.name for intent in procedure.corrections),
        asides=tuple(aside.name for aside in procedure.asides),
        nodes={
            node.name: tables.Node(
                hub=hubs[node.next] if node.next else None, sets=node.sets, clears=node.clears
            )
            for node in speakers
        },
        hubs=tuple(_ways(procedure.node(name)) for name in hubs),
    )


def _ways(hub: Node) -> tuple[tables.Way, ...]:
    ways = [
        tables.Way(
            to=edge.to,
            intents=edge.intents,
            slots=dict(edge.when.slots),
            flags=dict(edge.when.flags),
        )
        for edge in hub.edges
    ]
    return (*ways, tables.Way(to=hub.default or hub.edges[-1].to))
