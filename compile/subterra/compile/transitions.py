"""The legal transitions of a procedure, without a word of what user or agent say.

Goes in: a procedure. Comes out: the table that constrains an agent's state lines, which a sealed
agent carries as `transitions.json`. Hubs become numbers; names of nodes, slots, flags and intents,
and the values of closed slots, stand in the state line anyway. Does not know tokens.

    >>> transition_table(procedure).nodes["welcome"].hub
    0
"""

from subterra.compile.agent_source import AgentSource
from subterra.compile.procedure import Node, Procedure
from subterra.runtime import transition_table as tables
from subterra.runtime.errors import UsageError
from subterra.runtime.transition_table import TransitionTable


def transition_table(procedure: Procedure) -> TransitionTable:
    """Derive the table from the graph; `policy.move` never leaves it."""
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


def table_for(
    source: AgentSource, procedure: Procedure, constrained: bool | None
) -> TransitionTable | None:
    """Choose the table that an agent is scored with; None: it writes what it likes.

    Left open, a sealed agent is taken as it will run, and a work folder as it would be sealed.

    Raises:
        UsageError: it is to be constrained, and its recipe has no state line.
    """
    if source.recipe == "plain":
        if constrained:
            raise UsageError(
                f"{source.name} has no state line to constrain (recipe plain)",
                hint="leave --constrained out",
            )
        return None
    if constrained is False:
        return None
    if constrained is None and source.sealed:
        return source.table
    return source.table or transition_table(procedure)


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
