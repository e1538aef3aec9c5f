"""The verb `show`: a procedure's counts, paths and drawing.

Goes in: a procedure file or example folder. Comes out: counts and a tree for people, or one
document (JSON, Mermaid, tree) on stdout. Does not know what is done with the procedure.

    $ subterra show examples/zoom_support --mermaid > flow.mmd
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from subterra.compile.general_wording import load_training_bank
from subterra.compile.mermaid import flowchart
from subterra.compile.node_tree import node_tree, plain_tree
from subterra.compile.paths import PathCount, count_paths
from subterra.compile.procedure import Procedure
from subterra.compile.validation import load_procedure

SUMMARY = "print a procedure: counts, paths, drawing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("procedure", type=Path, help="procedure.yaml, or the folder it stands in")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="counts as one JSON document on stdout")
    form.add_argument("--mermaid", action="store_true", help="a Mermaid flowchart on stdout")
    form.add_argument("--tree", action="store_true", help="only the tree, on stdout")
    form.add_argument(
        "--wordings", action="store_true", help="wordings by intent: the training bank's, general"
    )


def run(args: argparse.Namespace) -> int:
    """Show the procedure.

    Raises:
        ProcedureError: it cannot be read or is not valid.
        UserBankError: wordings are asked for, and the banks do not fit.
    """
    procedure = load_procedure(args.procedure)
    folder = args.procedure if args.procedure.is_dir() else args.procedure.parent
    if args.json:
        print(json.dumps(counts(procedure), indent=2, ensure_ascii=False))
    elif args.mermaid:
        sys.stdout.write(flowchart(procedure))
    elif args.tree:
        _print_tree(procedure)
    elif args.wordings:
        sys.stdout.write(wordings_text(procedure, folder / "users"))
    else:
        print(f"{procedure.title} ({procedure.name})\n")
        print(counts_text(procedure))
        _print_tree(procedure)
    print(f"\nnext: subterra build {folder}", file=sys.stderr)
    return 0


def counts(procedure: Procedure) -> dict[str, int | str | bool]:
    """Count what a procedure is made of; `acyclic_paths_exact` is false where it is at least so."""
    paths = count_paths(procedure)
    return {
        "name": procedure.name,
        "title": procedure.title,
        "nodes": len(procedure.nodes),
        "hubs": len(procedure.of_kind("hub")),
        "terminals": len(procedure.of_kind("terminal")),
        "edges": count_edges(procedure),
        "acyclic_paths": paths.value,
        "acyclic_paths_exact": paths.exact,
        "slots": len(procedure.slots),
        "flags": len(procedure.flags),
        "intents": len(procedure.intent_names()),
        "mandatory": sum(node.mandatory for node in procedure.nodes),
    }


def count_edges(procedure: Procedure) -> int:
    """Count the arrows of the drawing: edges of hubs, their defaults, and what follows agents."""
    return sum(
        len(node.edges) + (node.default is not None) + (node.next is not None)
        for node in procedure.nodes
    )


def counts_text(procedure: Procedure) -> str:
    """Lay the counts out for people."""
    found = counts(procedure)
    paths = PathCount(int(found["acyclic_paths"]), bool(found["acyclic_paths_exact"]))
    rows = [
        ("nodes", f"{found['nodes']}  ({found['hubs']} hubs, {found['terminals']} terminals)"),
        ("edges", f"{found['edges']}"),
        ("acyclic paths", f"{paths}"),
        ("slots", f"{found['slots']}  ({', '.join(procedure.slot_names)})"),
        ("flags", f"{found['flags']}  ({', '.join(procedure.flags)})"),
        ("intents", f"{found['intents']}"),
    ]
    return "".join(f"  {name:<15}{value.removesuffix('  ()')}\n" for name, value in rows)


def wordings_text(procedure: Procedure, users: Path) -> str:
    """Lay out how many wordings each intent has in training: own ones, and general ones."""
    bank = load_training_bank(users / "train.yaml", procedure, users / "heldout.yaml")
    acts = procedure.acts()
    rows = ["  intent                   own  general\n"]
    for name in procedure.intent_names():
        own, general = len(bank.intents.get(name, ())), len(bank.general.get(name, ()))
        rows.append(f"  {name:<22}{own:>6}{general:>9}  {acts.get(name, '')}".rstrip() + "\n")
    return "".join((*rows, *(f"{line}\n" for line in (*bank.warnings, *bank.notes))))


def _print_tree(procedure: Procedure) -> None:
    if sys.stdout.isatty():
        Console().print(node_tree(procedure))
    else:
        sys.stdout.write(plain_tree(procedure))
