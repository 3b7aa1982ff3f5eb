"""The node `Attention` of domain `pyruntime` (see `quantize.attention`) in standard operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import add_initializer
from pyruntime.graph.nodes import get_float, get_int, insert_before, owner, replace_node
from pyruntime.graph.shapes import Dims, dims

EXPONENTIAL_SCALE = 1 / 255


def expand(node: ir.Node) -> None:
    """Replace an Attention by canonical operators: Softmax in float, but on dequantized operands

        e = DQ(Q(exp(s - max s))), result = (e v) / sum e        scale 1/255, 0 is the lowest integer

    where the attributes `shape` and `axes` of Reshape, ReduceMax and ReduceSum are still attributes.
    """
    quantized = all(_is_dequantized(value) for value in node.inputs[:3])
    heads = get_int(node, "heads", 1)

    def emit(
        op: str, inputs: list[ir.Value | None], result_shape: Dims | None, **attributes: Any
    ) -> ir.Value:
        result = insert_before(node, op, inputs, attributes).outputs[0]
        result.shape = None if result_shape is None else ir.Shape(result_shape)
        result.type = ir.TensorType(ir.DataType.FLOAT)
        return result

    def split(index: int, perm: list[int]) -> ir.Value:
        value = node.inputs[index]
        shape = dims(value)
        size = shape[2] // heads if shape is not None and isinstance(shape[2], int) else -1
        cut: Dims | None = None if shape is None else [shape[0], shape[1], heads, size]
        rows = emit("Reshape", [value], cut, shape=[0, 0, heads, size], allowzero=0)
        return emit("Transpose", [rows], None if cut is None else [cut[axis] for axis in perm], perm=perm)

    q, k, v = split(0, [0, 2, 1, 3]), split(1, [0, 2, 3, 1]), split(2, [0, 2, 1, 3])
    left, right, values = dims(q), dims(k), dims(v)
    square: Dims | None = None if left is None or right is None else [*left[:3], right[3]]
    scale = _number(node, "scale", get_float(node, "scale", 1.0))
    scores = emit("Mul", [emit("MatMul", [q, k], square), scale], square)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        scores = emit("Add", [scores, node.inputs[3]], square)
    row: Dims | None = None if square is None else [*square[:3], 1]
    out: Dims | None = None if left is None or values is None else [*left[:3], values[3]]
    if quantized:
        highest = emit("ReduceMax", [scores], row, axes=[3], keepdims=1)
        e = emit("Exp", [emit("Sub", [scores, highest], square)], square)
        weights = _quantize(node, e)
        total = emit("ReduceSum", [weights], row, axes=[3], keepdims=1)
        mixed = emit("Div", [emit("MatMul", [weights, v], out), total], out)
    else:
        mixed = emit("MatMul", [emit("Softmax", [scores], square, axis=3), v], out)
    moved: Dims | None = None if out is None else [out[axis] for axis in (0, 2, 1, 3)]
    rows = emit("Transpose", [mixed], moved, perm=[0, 2, 1, 3])
    replace_node(
        node, insert_before(node, "Reshape", [rows], {"shape": [0, 0, -1], "allowzero": 0}).outputs[0]
    )


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _number(node: ir.Node, name: str, number: float) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_{name}", np.asarray(number, np.float32))


def _quantized_type(value: ir.Value | None) -> ir.DataType:
    """Of the integers behind a dequantized value: u8 or s8."""
    producer = None if value is None else value.producer()
    source = None if producer is None else producer.inputs[0]
    return ir.DataType.INT8 if source is not None and source.dtype == ir.DataType.INT8 else ir.DataType.UINT8


def _quantize(node: ir.Node, value: ir.Value) -> ir.Value:
    dtype = _quantized_type(node.inputs[2])
    lowest = np.asarray(np.iinfo(dtype.numpy()).min, dtype.numpy())
    zero_point = add_initializer(owner(node), f"{node.name}_zero_point", lowest)
    parameters = [_number(node, "exponential_scale", EXPONENTIAL_SCALE), zero_point]
    codes = insert_before(node, "QuantizeLinear", [value, *parameters]).outputs[0]
    codes.shape, codes.type = value.shape, ir.TensorType(dtype)
    result = insert_before(node, "DequantizeLinear", [codes, *parameters]).outputs[0]
    result.shape, result.type = value.shape, value.type
    return result
