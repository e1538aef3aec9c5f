"""A child for the proof with a made-up conversation: `python proof_case.py CASE`."""

import os
import sys
from collections.abc import Iterator

from subterra.runtime import guard, proof_child
from subterra.runtime.bundle import Bundle
from subterra.runtime.proof_child import Step


def talk(bundle: Bundle, variant: str | None) -> Iterator[Step]:
    """Yield tokens and turns; read the bundle as an engine would."""
    while True:
        bundle.tokenizer.read_bytes()
        yield "token"
        yield "turn"


def falls_silent(bundle: Bundle, variant: str | None) -> Iterator[Step]:
    """Say one word and stop."""
    yield "token"


def crashes(bundle: Bundle, variant: str | None) -> Iterator[Step]:
    """Die as a broken engine would."""
    yield "token"
    raise RuntimeError("the engine broke")


def off(**_: object) -> guard.GuardStatus:
    """Stand in for a guard that does nothing and claims everything."""
    layers = tuple(guard.Layer(name, True, "claimed") for name in guard.LAYERS)
    return guard.GuardStatus("required", layers, 1, 1)


if __name__ == "__main__":
    case = sys.argv[1]
    if case == "nobody":
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if case == "off":
        vars(proof_child)["lock_down"] = off
    sys.exit(proof_child.main({"silent": falls_silent, "crash": crashes}.get(case, talk)))
