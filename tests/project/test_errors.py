"""The tree of errors: drawn, numbered, and never raised without a next step."""

import ast
import re
from pathlib import Path

import pytest

from subterra.runtime import errors
from subterra.runtime.errors import SubterraError

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = ("runtime", "models", "compile", "quantize", "tui")
OWN_HINT = {"MissingExtraError"}
"""Classes that make their hint themselves."""
DRAWN = re.compile(r"(?P<depth>[│ ├└─]*)(?P<name>\w+Error)(?: +(?P<code>\d+))? ")


def classes() -> dict[str, type[SubterraError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, SubterraError)
    }


def drawn() -> dict[str, tuple[str, int]]:
    """Read the tree of the module's docstring: class -> (parent, exit code)."""
    tree: dict[str, tuple[str, int]] = {}
    above: list[tuple[int, str, int]] = []
    for line in (errors.__doc__ or "").splitlines():
        matched = DRAWN.match(f"{line} ")
        if matched is None:
            continue
        depth = len(matched["depth"])
        above = [entry for entry in above if entry[0] < depth]
        parent, inherited = (above[-1][1], above[-1][2]) if above else ("Exception", 1)
        code = int(matched["code"] or inherited)
        tree[matched["name"]] = (parent, code)
        above.append((depth, matched["name"], code))
    return tree


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_class_is_drawn_below_its_parent_with_its_exit_code(name: str) -> None:
    found = classes()[name]
    assert drawn()[name] == (found.__mro__[1].__name__, found.exit_code)


def test_the_drawing_names_nothing_else() -> None:
    assert set(drawn()) == set(classes())


def test_exit_codes_of_branches_differ() -> None:
    codes = [found.exit_code for found in SubterraError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_error_says_what_to_do_next(portion: str) -> None:
    without = []
    for path in sorted((ROOT / portion / "subterra").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node.func) in classes():
                without += [] if _has_hint(node) else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert not without


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _has_hint(call: ast.Call) -> bool:
    """Tell whether a hint is passed that is not an empty text."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "hint"]
    empty = any(isinstance(value, ast.Constant) and not value.value for value in given)
    return _name(call.func) in OWN_HINT or (bool(given) and not empty)
