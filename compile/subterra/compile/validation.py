"""From `procedure.yaml` to a `Procedure`, or to every problem of the file at once.

Goes in: the path of the file, or of the folder it stands in. Comes out: a procedure that can be
walked and compiled, or a `ProcedureError` with a line for each problem. Does not know what is done
with it.

    >>> load_procedure(Path("examples/zoom_support")).name
    'zoom_support'
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

from subterra.compile.coverage import coverage_problems
from subterra.compile.graph_checks import graph_problems
from subterra.compile.name_checks import name_problems
from subterra.compile.procedure import Procedure
from subterra.compile.procedure_build import build_procedure
from subterra.compile.reference_checks import reference_problems
from subterra.compile.schema_problems import schema_problems
from subterra.compile.wording_checks import wording_problems
from subterra.compile.yaml_source import Document, Problem, failure_of, read_yaml
from subterra.runtime.errors import ProcedureError
from subterra.runtime.files import sha256_file

FILE_NAME = "procedure.yaml"
"""The file that an example folder holds."""
CHECKS = (
    name_problems,
    reference_problems,
    graph_problems,
    wording_problems,
    coverage_problems,
)


def load_procedure(path: Path) -> Procedure:
    """Load a procedure from its file or its example folder.

    Raises:
        ProcedureError: the file cannot be read, is not YAML, or is not a valid flowchart.
    """
    file = path / FILE_NAME if os.path.isdir(path) else path  # noqa: PTH112 - never raises
    hint = f"give a {FILE_NAME} or the folder that holds one: subterra show examples/zoom_support"
    document = read_yaml(file, ProcedureError, hint)
    problems, procedure = examine(document)
    if problems:
        hint = f"mend {file} and run: subterra show {path}"
        raise failure_of(file, problems, ProcedureError, hint)
    return replace(procedure, sha256=sha256_file(file))


def procedure_beside(users: Path) -> Path:
    """Locate the procedure of a user bank: the file above the folder that the bank stands in."""
    return users.resolve().parent.parent / FILE_NAME


def examine(document: Document) -> tuple[list[Problem], Procedure]:
    """List every problem of a document, and build what can be built of it."""
    problems = [*document.problems, *_form_problems(document)]
    procedure = build_procedure(cast(dict[str, object], document.root.plain()))
    for check in CHECKS:
        problems += check(procedure, document)
    return problems, procedure


def _form_problems(document: Document) -> list[Problem]:
    root = document.root
    if isinstance(root.content, dict) and root.content:
        return schema_problems(document)
    words = "a procedure is a mapping with the keys 'name', 'title', 'system', 'start' and 'nodes'"
    if root.content in (None, {}):
        words = "the procedure is empty and has no nodes; examples/zoom_support shows one"
    root.content = {}
    return [document.problem((), words)]
