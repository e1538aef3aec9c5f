"""Store the vocabulary table of an ONNX decoder in 8 bits, once for embedding and head.

Goes in: a graph whose embedding is `Gather(table, input_ids)` and whose `logits` come from a MatMul
with that table (tied, through a Transpose) or with a matrix of its own. Comes out: the same graph
with MatMulNBits as head, and an embedding that dequantizes the rows it looks up. Also ties the two
again in a graph that stores both. Quantizes nothing else.

The table of a small model is a fifth of its weights and is used twice; fp32 it would be larger than
all other weights at 4 bits. Blocks of 32 with one fp32 scale: 9 bits per weight.

    before   Gather(table, ids)             MatMul(hidden, Transpose(table))
    after    Gather(codes, ids) - 128       MatMulNBits(hidden, codes, scales)
             * Gather(scales, ids)                      same codes (V, H/32, 32), scales (V, H/32)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.errors import ExportError

BLOCK = 32
"""Weights that share a scale."""

ZERO_POINT = 128
"""Code of zero in symmetric 8-bit blocks (ONNX Runtime, MatMulNBits)."""

EMBEDDING_CODES = "subterra_embedding_codes"
EMBEDDING_SCALES = "subterra_embedding_scales"


@dataclass(frozen=True, slots=True)
class Table:
    """A matrix (N, K) in 8-bit blocks along K."""

    codes: NDArray[np.uint8]
    """(N, K / BLOCK, BLOCK)."""
    scales: NDArray[np.float32]
    """(N, K / BLOCK)."""

    def dequantized(self) -> NDArray[np.float32]:
        """Values (N, K) that the codes stand for."""
        values = (self.codes.astype(np.float32) - ZERO_POINT) * self.scales[..., None]
        return values.reshape(len(values), -1)


def quantize_table(matrix: NDArray[np.float32]) -> Table:
    """Round a matrix (N, K) to symmetric 8-bit blocks along K.

    Raises:
        ExportError: K is not a multiple of BLOCK.
    """
    rows, columns = matrix.shape
    if columns % BLOCK:
        raise ExportError(
            f"hidden size {columns} is not a multiple of {BLOCK}",
            hint="use the GGUF variants: subterra quantize --variants F16,Q8_0",
        )
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK).astype(np.float32)
    scales = np.abs(blocks).max(axis=-1) / 127
    safe = np.where(scales == 0, 1, scales)
    codes = np.rint(blocks / safe[..., None]) + ZERO_POINT
    return Table(codes.astype(np.uint8), scales.astype(np.float32))


def head_name(model: Any) -> str:
    """Name of the MatMul that makes the logits.

    Raises:
        ExportError: the graph has no such node.
    """
    for node in model.graph.node:
        if node.op_type == "MatMul" and "logits" in node.output:
            return str(node.name)
    raise _foreign("no MatMul makes the output 'logits'")


def share_table(model: Any) -> bool:
    """Let the head read the embedding through a Transpose if its weight is the same; True if so.

    Raises:
        ExportError: the graph has another structure than optimum gives to decoders.
    """
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    table = _embedding(model, weights).input[0]
    name = head_name(model)
    head = next(node for node in model.graph.node if node.name == name)
    own = weights.get(head.input[1])
    if own is None or own.name == table:
        return False
    values, expected = numpy_helper.to_array(own), numpy_helper.to_array(weights[table])
    if not np.array_equal(values, expected.T):
        return False
    turned = f"{table}_transposed"
    head.input[1] = turned
    node = helper.make_node("Transpose", [table], [turned], turned, perm=[1, 0])
    _splice(model, head, [node, head])
    model.graph.initializer.remove(own)
    return True


def shrink_vocabulary(model: Any, accuracy_level: int) -> None:
    """Replace embedding and head of `model`, in place.

    Raises:
        ExportError: the graph has another structure than optimum gives to decoders.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    embedding = _embedding(model, weights)
    name = head_name(model)
    head = next(node for node in model.graph.node if node.name == name)
    head_weight, transpose = _head_weight(model, head, weights)
    _replace_embedding(model, embedding, weights[embedding.input[0]])
    tied = head_weight == embedding.input[0]
    _replace_head(model, head, None if tied else weights[head_weight], accuracy_level)
    _remove_unused(model, {embedding.input[0], head_weight}, transpose)


def _embedding(model: Any, weights: dict[str, Any]) -> Any:
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in weights:
            return node
    raise _foreign("no Gather looks up input_ids")


def _head_weight(model: Any, head: Any, weights: dict[str, Any]) -> tuple[str, Any]:
    name = str(head.input[1])
    if name in weights:
        return name, None
    for node in model.graph.node:
        if node.op_type == "Transpose" and name in node.output and node.input[0] in weights:
            return str(node.input[0]), node
    raise _foreign("the head's weight is not stored in the graph")


def _replace_embedding(model: Any, node: Any, weight: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    table = quantize_table(numpy_helper.to_array(weight))
    width = table.scales.shape[1] * BLOCK
    initializers = [
        numpy_helper.from_array(table.codes, EMBEDDING_CODES),
        numpy_helper.from_array(table.scales, EMBEDDING_SCALES),
        numpy_helper.from_array(np.float32(ZERO_POINT), "subterra_zero_point"),
        numpy_helper.from_array(np.array([-1], np.int64), "subterra_last_axis"),
        numpy_helper.from_array(np.array([0, 0, width], np.int64), "subterra_row_shape"),
    ]
    p = "subterra/embedding/"
    nodes = [
        helper.make_node("Gather", [EMBEDDING_CODES, "input_ids"], [p + "codes"], p + "codes"),
        helper.make_node("Cast", [p + "codes"], [p + "float"], p + "float", to=TensorProto.FLOAT),
        helper.make_node("Sub", [p + "float", "subterra_zero_point"], [p + "signed"], p + "signed"),
        helper.make_node("Gather", [EMBEDDING_SCALES, "input_ids"], [p + "scales"], p + "scales"),
        helper.make_node(
            "Unsqueeze", [p + "scales", "subterra_last_axis"], [p + "column"], p + "column"
        ),
        helper.make_node("Mul", [p + "signed", p + "column"], [p + "blocks"], p + "blocks"),
        helper.make_node(
            "Reshape", [p + "blocks", "subterra_row_shape"], [node.output[0]], p + "rows"
        ),
    ]
    model.graph.initializer.extend(initializers)
    _splice(model, node, nodes)


def _replace_head(model: Any, node: Any, own_weight: Any, accuracy_level: int) -> None:
    from onnx import helper, numpy_helper

    codes, scales = EMBEDDING_CODES, EMBEDDING_SCALES
    if own_weight is not None:
        codes, scales = "subterra_head_codes", "subterra_head_scales"
        table = quantize_table(numpy_helper.to_array(own_weight).T)  # (H, V) -> (V, H)
        model.graph.initializer.append(numpy_helper.from_array(table.codes, codes))
        model.graph.initializer.append(numpy_helper.from_array(table.scales, scales))
    shape = next(tuple(t.dims) for t in model.graph.initializer if t.name == codes)
    quantized = helper.make_node(
        "MatMulNBits",
        [node.input[0], codes, scales],
        [node.output[0]],
        node.name + "_Q8",
        domain="com.microsoft",
        K=shape[1] * BLOCK,
        N=shape[0],
        bits=8,
        block_size=BLOCK,
        accuracy_level=accuracy_level,
    )
    _splice(model, node, [quantized])
    if not any(opset.domain == "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _splice(model: Any, old: Any, new: list[Any]) -> None:
    """Put `new` where `old` was; the order of nodes stays topological."""
    nodes = list(model.graph.node)
    position = nodes.index(old)
    nodes[position : position + 1] = new
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _remove_unused(model: Any, names: set[str], transpose: Any) -> None:
    if transpose is not None:
        model.graph.node.remove(transpose)
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name not in names or t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _foreign(problem: str) -> ExportError:
    return ExportError(
        f"the ONNX graph is not a decoder as optimum exports it: {problem}",
        hint="make it again: subterra quantize --variants onnx-fp32",
    )
