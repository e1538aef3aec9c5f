"""Quantize an F16 GGUF with llama.cpp's own quantizer.

Goes in: a GGUF and the kind wanted. Comes out: a GGUF and its exact bits per weight.
Does not know the model's text or its score. Log lines of llama.cpp are kept for the error message.

    >>> quantize_gguf(Path("F16.gguf"), Path("Q8_0.gguf"), "Q8_0").bits_per_weight
    8.50...
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from subterra.quantize.gguf_header import read_tensors
from subterra.runtime.errors import ExportError, MissingExtraError, ResourceError
from subterra.runtime.files import replacing

Kind = Literal["Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WRITE_FAILED = "iostream error"
"""What llama.cpp says when the disk takes no more bytes."""


@dataclass(frozen=True, slots=True)
class TensorSizes:
    """What the tensors of a GGUF weigh."""

    path: Path
    bytes: int
    """Of the whole file."""
    tensor_bytes: int
    parameters: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that the tensors take for each parameter, exactly."""
        return self.tensor_bytes * 8 / self.parameters


def quantize_gguf(
    source: Path, target: Path, kind: Kind, *, threads: int = 0, verbose: bool = False
) -> TensorSizes:
    """Quantize `source` into `target`; the old target stays until the new one is whole.

    Args:
        source: An F16 or F32 GGUF.
        target: The file to write.
        kind: The block format of the matrices; vectors stay F32.
        threads: Worker threads; 0 means one for each usable core.
        verbose: Show llama.cpp's log on stderr.

    Raises:
        ExportError: `source` is missing, truncated or no GGUF, or `kind` is unknown.
        ResourceError: the disk is full or the folder is read-only.
        MissingExtraError: llama-cpp-python is not installed.
    """
    llama = _llama_cpp()
    if kind not in KINDS:
        raise ExportError(f"unknown GGUF kind '{kind}'", hint=f"one of {', '.join(KINDS)}")
    if not source.is_file():
        raise ExportError(f"no GGUF at {source}", hint="subterra quantize writes F16 first")
    parameters = llama.llama_model_quantize_default_params()
    parameters.nthread = threads or len(os.sched_getaffinity(0))
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    with replacing(target) as temporary:
        with captured_log(llama, verbose=verbose) as lines:
            status = llama.llama_model_quantize(
                os.fsencode(source), os.fsencode(temporary), parameters
            )
        if status != 0:
            raise _failure(source, target, lines)
        written = tensor_sizes(temporary)
    return TensorSizes(target, written.bytes, written.tensor_bytes, written.parameters)


def tensor_sizes(path: Path) -> TensorSizes:
    """Add up the tensors of a GGUF that this program wrote.

    Raises:
        ExportError: the file is not a whole GGUF.
        MissingExtraError: the `gguf` package is not installed.
    """
    try:
        tensors = read_tensors(path)
    except ModuleNotFoundError as error:
        raise MissingExtraError("gguf", "quantize") from error
    except (ValueError, OSError) as error:
        raise ExportError(f"{path} is not a whole GGUF: {error}", hint="quantize again") from error
    return TensorSizes(
        path,
        path.stat().st_size,
        sum(tensor.bytes for tensor in tensors),
        sum(tensor.elements for tensor in tensors),
    )


@contextmanager
def captured_log(llama: Any, *, verbose: bool) -> Iterator[list[str]]:
    """Collect llama.cpp's log lines instead of printing them; print them too when `verbose`."""
    lines: list[str] = []

    def keep(_level: int, text: bytes, _data: object) -> None:
        lines.append(text.decode(errors="replace"))
        if verbose:
            print(lines[-1], end="", file=sys.stderr, flush=True)

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, None)
    try:
        yield lines
    finally:
        llama.llama_log_set(_QUIET.setdefault("callback", llama.llama_log_callback(_drop)), None)


_QUIET: dict[str, Any] = {}
"""Holds the silent callback: llama.cpp keeps a bare pointer to it."""


def _drop(_level: int, _text: bytes, _data: object) -> None:
    """Say nothing."""


def _failure(source: Path, target: Path, lines: list[str]) -> ExportError | ResourceError:
    errors = [line.strip() for line in lines if "error" in line or "failed" in line]
    reason = errors[-1].rpartition("failed to quantize: ")[2] if errors else "no reason given"
    if WRITE_FAILED in reason:
        return ResourceError(
            f"no space left while writing {target}", hint="free some disk space and run again"
        )
    return ExportError(
        f"llama.cpp cannot quantize {source}: {reason}",
        hint="delete the file and run subterra quantize again",
    )


def _llama_cpp() -> Any:
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        raise MissingExtraError("llama-cpp-python", "gguf") from error
    return llama_cpp
