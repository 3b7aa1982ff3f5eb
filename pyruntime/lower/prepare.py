"""Exact moves of Q and DQ before the rules run, so that data movement happens on integers."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph import expand_attention, insert_after, insert_before, topological_nodes
from pyruntime.lower.movement import inputs_share_params, keeps_values, pad_is_exact
from pyruntime.lower.pool import MAX_POOLS
from pyruntime.lower.quantization import operand_of, params_of


def expand_float_attention(model: ir.Model) -> None:
    """Take apart every attention whose operands are not quantized."""
    for node in topological_nodes(model):
        is_attention = node.op_type == "Attention" and node.domain == "pyruntime"
        if is_attention and any(operand_of(value) is None for value in node.inputs[:3]):
            expand_attention(node)


def prepare(model: ir.Model, exposed: set[ir.Value]) -> None:
    """Both moves, on a model that the caller owns."""
    for node in reversed(topological_nodes(model)):
        _hoist_quantize(node, exposed)
    for node in topological_nodes(model):
        _sink_dequantize(node)


def _selects(node: ir.Node) -> bool:
    """Movement, and maxima: monotone functions commute with them."""
    return keeps_values(node) or node.op_type in MAX_POOLS


def _hoist_quantize(quantize: ir.Node, exposed: set[ir.Value]) -> None:
    """x -> move -> Q becomes x -> Q -> DQ -> move -> Q, where x is computed in float for this alone."""
    if quantize.op_type != "QuantizeLinear" or params_of(quantize) is None or quantize.inputs[0] is None:
        return
    moved = quantize.inputs[0]
    node = moved.producer()
    if node is None or not _selects(node) or len(node.outputs) != 1 or len(node.inputs) != 1:
        return
    x = node.inputs[0]
    if x is None or x.producer() is None or operand_of(x) is not None:
        return
    if any(value in exposed or len(value.uses()) != 1 for value in (x, moved)):
        return
    node.replace_input_with(0, _insert_pair_before(node, quantize, x))
    # The pair just made may be hoisted further.
    inserted = node.inputs[0].producer() if node.inputs[0] is not None else None
    if inserted is not None and inserted.inputs[0] is not None:
        made_by = inserted.inputs[0].producer()
        if made_by is not None:
            _hoist_quantize(made_by, exposed)


def _insert_pair_before(anchor: ir.Node, quantize: ir.Node, x: ir.Value) -> ir.Value:
    integer = quantize.outputs[0].dtype
    first = insert_before(anchor, "QuantizeLinear", [x, *quantize.inputs[1:]])
    _describe(first, x, integer)
    second = insert_before(anchor, "DequantizeLinear", [first.outputs[0], *quantize.inputs[1:]])
    _describe(second, x, x.dtype)
    return second.outputs[0]


def _describe(node: ir.Node, like: ir.Value, kind: ir.DataType | None) -> None:
    node.outputs[0].shape = like.shape
    if kind is not None:
        node.outputs[0].dtype = kind


def _sink_dequantize(node: ir.Node) -> None:
    """DQ -> move -> readers becomes DQ -> move -> Q -> DQ -> readers: exact, values stay on the grid."""
    if not _selects(node) or not node.inputs:
        return
    params = inputs_share_params(node)
    if params is None or not pad_is_exact(node, params) or node.inputs[0] is None:
        return
    dequantize = node.inputs[0].producer()
    assert dequantize is not None and dequantize.inputs[0] is not None
    for output in node.outputs:
        readers = [use for use in output.uses() if use.node.op_type != "QuantizeLinear"]
        if not readers:
            continue
        first = insert_after(node, "QuantizeLinear", [output, *dequantize.inputs[1:]])
        _describe(first, output, dequantize.inputs[0].dtype)
        second = insert_after(first, "DequantizeLinear", [first.outputs[0], *dequantize.inputs[1:]])
        _describe(second, output, output.dtype)
        for use in readers:
            use.node.replace_input_with(use.idx, second.outputs[0])
