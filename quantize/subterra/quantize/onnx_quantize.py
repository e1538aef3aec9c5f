"""Quantize an exported ONNX decoder to int8 or int4, weight by blocks (MatMulNBits).

Goes in: an `onnx-fp32` folder. Comes out: a folder with the same files and a smaller graph.
Does not measure accuracy.

Weights are rounded in symmetric blocks of 32 that share a scale; activations are rounded to int8 in
the same blocks while running. The vocabulary table has 8 bits in both kinds, stored once.

| kind | layers, bits per weight | SmolLM2-135M |
|------|-------------------------|--------------|
| int8 | 8 + 1 for the scale     | 146 MiB      |
| int4 | 4 + 1                   | 95 MiB       |

ONNX Runtime's `quantize_dynamic` is not used for int8: one activation scale for a whole tensor
drowns in the outliers before `down_proj`. On SmolLM2-135M-Instruct and English prose its mean KLD
was 0.48 (0.06 without `down_proj`), against 0.004 with blocks at 8 % more bytes.

    >>> quantize_onnx(Path("variants/onnx-fp32"), Path("variants/onnx-int4"), "int4")
"""

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from subterra.quantize.onnx_vocabulary import BLOCK, head_name, shrink_vocabulary
from subterra.runtime.errors import ExportError, MissingExtraError
from subterra.runtime.files import replacing_folder

OnnxKind = Literal["int8", "int4"]

BITS: dict[OnnxKind, int] = {"int8": 8, "int4": 4}

ACCURACY_LEVEL = 4
"""MatMulNBits multiplies in int8, the fast CPU path; 1 would be fp32 (ONNX Runtime docs). The head
too: 38 ms a token instead of 265 with int8 at 135M on one core, for a mean KLD to the fp32 graph of
7.5e-5 instead of 6.5e-5 (2,425 tokens)."""

SINGLE_FILE_LIMIT = 1_900_000_000
"""Bytes; a protobuf message may not pass 2 GiB."""

DATA_FILE = "model.onnx.data"


def quantize_onnx(source: Path, target: Path, kind: OnnxKind) -> None:
    """Write `target`, the folder `source` with its graph quantized to `kind`.

    Raises:
        ExportError: the source is missing, damaged or not a decoder graph.
        MissingExtraError: onnx or onnx_ir is not installed.
        ResourceError: the folder cannot be written.
    """
    graph = source / "model.onnx"
    if not graph.is_file():
        raise ExportError(
            f"no ONNX graph at {graph}", hint="subterra quantize --variants onnx-fp32 makes it"
        )
    with replacing_folder(target) as folder:
        for file in source.iterdir():
            graph_file = file.name.startswith("model.onnx")
            if file.is_file() and not graph_file and file.name != "export.json":
                shutil.copyfile(file, folder / file.name)
        try:
            model = _rounded_layers(graph, BITS[kind])
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "onnx", "quantize") from error
        shrink_vocabulary(model, ACCURACY_LEVEL)
        save_graph(model, folder)


def load_graph(path: Path, *, weights: bool = True) -> Any:
    """Read a graph, by default with its external data.

    Raises:
        ExportError: the file is not a complete ONNX graph.
    """
    import onnx

    try:
        return onnx.load(str(path), load_external_data=weights)
    except Exception as error:  # protobuf, onnx and the file system each have their own
        raise ExportError(
            f"{path} is not a complete ONNX graph: {error}",
            hint="make it again: subterra quantize --variants onnx-fp32",
        ) from error


def save_graph(model: Any, folder: Path) -> None:
    """Write `model.onnx`; weights go to a data file only when one message cannot hold them."""
    import onnx

    (folder / "model.onnx").unlink(missing_ok=True)
    (folder / DATA_FILE).unlink(missing_ok=True)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx.save_model(
        model,
        str(folder / "model.onnx"),
        save_as_external_data=size > SINGLE_FILE_LIMIT,
        location=DATA_FILE,
    )


def initializer_bytes(folder: Path) -> int:
    """Bytes of the tensors that the graph of an ONNX folder stores.

    Raises:
        ExportError: the folder has no complete graph.
    """
    import onnx

    graph = load_graph(folder / "model.onnx", weights=False).graph
    return sum(
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
    )


def _rounded_layers(graph: Path, bits: int) -> Any:
    """The graph with every constant MatMul but the head replaced."""
    with _without_log():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        model = load_graph(graph)
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=bits,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=ACCURACY_LEVEL,
            nodes_to_exclude=[head_name(model)],
        )
        quantizer.process()
        return quantizer.model.model


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Silence the quantizer, which also configures the root logger when imported."""
    handlers, level = logging.root.handlers[:], logging.root.level
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
