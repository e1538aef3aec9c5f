"""The `subterra` command: a lazy table of verbs, one module each.

A verb's module offers `add_arguments(parser)` and `run(args) -> int`; it is imported only when its
verb is called, so `subterra --help` loads no heavy library.

    $ subterra chat build/zoom_support/zoom_support.agent
"""

import argparse
import importlib
import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path

from subterra.runtime.errors import MissingExtraError, SubterraError, from_os_error

VERBS = {
    "show": ("subterra.compile.show", "compile", "print a procedure: counts, paths, drawing"),
    "widen": ("subterra.compile.widen", "compile", "let a teacher write more user wordings"),
    "build": ("subterra.quantize.build", "quantize", "the whole way: procedure to sealed agent"),
    "compile": ("subterra.compile.compile", "compile", "train an adapter from a procedure"),
    "merge": ("subterra.compile.merge", "compile", "merge an adapter into its base model"),
    "score": ("subterra.compile.score", "compile", "roll out conversations and measure them"),
    "quantize": ("subterra.quantize.quantize", "quantize", "export GGUF and ONNX variants"),
    "report": ("subterra.quantize.report", "quantize", "accuracy report of every variant"),
    "seal": ("subterra.quantize.seal", "quantize", "write a signed bundle"),
    "keygen": ("subterra.runtime.keygen", "base", "make a signing key"),
    "verify": ("subterra.runtime.verify", "base", "check a bundle's signature and files"),
    "prove": ("subterra.runtime.prove", "base", "try every egress route under the guard"),
    "chat": ("subterra.tui.chat", "tui", "talk to a sealed agent in the terminal"),
    "doctor": ("subterra.runtime.doctor", "base", "what this machine can run"),
}
"""Verb -> (module, extra that brings its dependencies, one line)."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run the verb, and turn expected failures into two lines."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        return _dispatch([a for a in arguments if a != "--debug"])
    except KeyboardInterrupt:
        print("subterra: interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SubterraError, OSError) as error:
        if debug:
            traceback.print_exc()
        expected = error if isinstance(error, SubterraError) else _from_system(error)
        print(f"subterra: {expected}", file=sys.stderr)
        print(f"  next: {expected.hint or 'run again with --debug for details'}", file=sys.stderr)
        return expected.exit_code


def _from_system(error: OSError) -> SubterraError:
    return from_os_error(error, Path(error.filename or "the output"))


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb not in VERBS:
        return _help_or_unknown(verb)
    module_name, extra, summary = VERBS[verb]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("subterra."):
            raise
        raise MissingExtraError(error.name, extra) from error
    parser = argparse.ArgumentParser(prog=f"subterra {verb}", description=summary)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(arguments[1:])))


def _help_or_unknown(verb: str) -> int:
    if verb in ("--version", "-V"):
        print(f"subterra {version('subterra')}")
        return 0
    known = verb in ("--help", "-h", "help")
    out = sys.stdout if known else sys.stderr
    if not known:
        print(f"subterra: unknown verb '{verb}'", file=out)
    print(
        "usage: subterra VERB [options]   (subterra VERB --help for a verb's options)\n", file=out
    )
    for name, (_, _, summary) in VERBS.items():
        print(f"  {name:<10}{summary}", file=out)
    return 0 if known else 2
