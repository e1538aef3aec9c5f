"""One run of an exported decoder in ONNX Runtime, with its cache left inside the runtime.

Goes in: token ids, their position, past keys and values. Comes out: logits and the longer cache.
Head counts and sizes are read from the graph's inputs. Does not know prefixes or replies.

    >>> graph = open_graph(Path("onnx-int8"), threads=2)
    >>> logits, past = graph.run([1, 2, 3], 0, graph.empty_past())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subterra.runtime import telemetry
from subterra.runtime.errors import EngineError

telemetry.silence()

import onnxruntime  # noqa: E402 - the telemetry switches must be set first

MODEL_FILE = "model.onnx"
PAST_PREFIX = "past_key_values."
PRESENT_PREFIX = "present."
FATAL_ONLY = 4
"""ONNX Runtime's log severity; its errors reach the user as EngineError."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A loaded decoder."""

    session: Any
    past_shapes: dict[str, tuple[int, int]]
    """Past input -> (heads, size of a head)."""
    inputs: frozenset[str]
    vocab_size: int

    def empty_past(self) -> list[Any]:
        """Keys and values of an empty conversation."""
        return [
            _value(np.zeros((1, heads, 0, size), np.float32))
            for heads, size in self.past_shapes.values()
        ]

    def cut(self, past: list[Any], length: int) -> list[Any]:
        """Keep the first `length` positions; empty for 0."""
        if length == 0:
            return []
        return [_value(np.ascontiguousarray(value.numpy()[:, :, :length])) for value in past]

    def run(
        self, tokens: Sequence[int], start: int, past: list[Any]
    ) -> tuple[NDArray[np.float32], list[Any]]:
        """Read `tokens` at positions `start`...; logits (T, V) and the cache with them.

        Raises:
            EngineError: ONNX Runtime fails.
        """
        count = len(tokens)
        feeds = {
            "input_ids": _value(np.array([tokens], np.int64)),
            "attention_mask": _value(np.ones((1, start + count), np.int64)),
            "position_ids": _value(np.arange(start, start + count, dtype=np.int64)[None]),
        }
        feeds = {name: value for name, value in feeds.items() if name in self.inputs}
        feeds |= dict(zip(self.past_shapes, past, strict=True))
        presents = [name.replace(PAST_PREFIX, PRESENT_PREFIX) for name in self.past_shapes]
        try:
            logits, *longer = self.session.run_with_ort_values(["logits", *presents], feeds)
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed: {_first_line(error)}", hint="make the variant again"
            ) from error
        return logits.numpy()[0], longer


def open_graph(path: Path, threads: int) -> Graph:
    """Load the decoder in the folder or file `path`.

    Raises:
        EngineError: the file is missing, damaged, or no decoder with a cache.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise EngineError(f"there is no model at {file}", hint="check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime refuses {file}: {_first_line(error)}",
            hint="make the variant again with: subterra quantize",
        ) from error
    return _describe(session, file)


def _describe(session: Any, file: Path) -> Graph:
    inputs = {item.name: item.shape for item in session.get_inputs()}
    outputs = {item.name: item.shape for item in session.get_outputs()}
    shapes = {name: shape for name, shape in inputs.items() if name.startswith(PAST_PREFIX)}
    vocab = (outputs.get("logits") or [None])[-1]
    named = all(n.replace(PAST_PREFIX, PRESENT_PREFIX) in outputs for n in shapes)
    sized = all(
        len(shape) == 4 and isinstance(shape[1], int) and isinstance(shape[3], int)
        for shape in shapes.values()
    )
    if "input_ids" not in inputs or not shapes or not named or not sized:
        raise _not_a_decoder(file, "it lacks input_ids or past keys and values of known size")
    if not isinstance(vocab, int):
        raise _not_a_decoder(file, "its logits have no fixed vocabulary size")
    known = {"input_ids", "attention_mask", "position_ids", *shapes}
    if unknown := sorted(set(inputs) - known):
        raise _not_a_decoder(file, f"it asks for {', '.join(unknown)}")
    return Graph(
        session,
        {name: (int(shape[1]), int(shape[3])) for name, shape in shapes.items()},
        frozenset(inputs),
        vocab,
    )


def _value(array: NDArray[Any]) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _not_a_decoder(file: Path, reason: str) -> EngineError:
    return EngineError(
        f"{file} is not a decoder with a cache: {reason}",
        hint="export it with optimum's task text-generation-with-past",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
