"""Rules for pooling."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pyruntime.graph import get_int, get_ints, rank
from pyruntime.lower.context import Context, Match, dynamic
from pyruntime.lower.movement import output_like
from pyruntime.lower.quantization import Params, operand_of, params_of

MAX_POOLS = ("MaxPool", "GlobalMaxPool")


def _attributes(node: ir.Node) -> dict[str, Any]:
    if node.op_type.startswith("Global"):
        return {"global": 1}
    return {
        "kernel": get_ints(node, "kernel_shape"),
        "strides": get_ints(node, "strides"),
        "pads": get_ints(node, "pads"),
        "dilations": get_ints(node, "dilations"),
        "ceil_mode": get_int(node, "ceil_mode", 0),
    }


def _average_attributes(node: ir.Node) -> dict[str, Any] | None:
    """Attributes of `average_pool` for a pool or a mean over the plane; None for other nodes."""
    if node.op_type == "AveragePool":
        return {**_attributes(node), "count_include_pad": get_int(node, "count_include_pad", 0)}
    if node.op_type == "GlobalAveragePool":
        return {"global": 1}
    if node.op_type == "ReduceMean":
        size = rank(node.inputs[0])
        axes = get_ints(node, "axes")
        if size in (3, 4) and axes is not None and sorted(axes) == list(range(2, size)):
            return {"global": 1}
    return None


def quantized_average_pool(context: Context, value: ir.Value) -> Match | None:
    """Q <- AveragePool, GlobalAveragePool or ReduceMean over the plane <- DQ: integer `average_pool`."""
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.inputs[0] is None:
        return None
    out, node = params_of(quantize), quantize.inputs[0].producer()
    if out is None or node is None:
        return None
    attributes, operand = _average_attributes(node), operand_of(node.inputs[0])
    if attributes is None or operand is None or operand.is_constant:
        return None
    pooled = {**attributes, "multiplier": operand.params.scale / out[0].scale}

    def emit() -> None:
        name = context.u8_input(operand, node)
        keeps_axes = node.op_type != "ReduceMean" or get_int(node, "keepdims", 1)
        if keeps_axes:
            context.node(node, "average_pool", [name], context.quantized_output(value, out[0]), pooled)
            return
        axes = get_ints(node, "axes") or []
        between = _with_ones(context, value, out[0], axes)
        context.node(node, "average_pool", [name], between, pooled)
        context.node(node, "squeeze", [between], context.quantized_output(value, out[0]), {"axes": axes})

    return Match([operand.source], emit)


def _with_ones(context: Context, value: ir.Value, params: Params, axes: list[int]) -> str:
    """Describes the pooled value before its axes of size 1 are removed."""
    shape = [*context.shape(value), *(1 for _ in axes)]
    return context.value(context.fresh(f"{value.name}_pooled"), "u8", shape, params)


def quantized_max_pool(context: Context, value: ir.Value) -> Match | None:
    """Q <- MaxPool or GlobalMaxPool <- DQ: maximum of u8, then a table where the scales differ."""
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.inputs[0] is None:
        return None
    out, pooled = params_of(quantize), quantize.inputs[0]
    node = pooled.producer()
    if out is None or node is None or node.op_type not in MAX_POOLS:
        return None
    operand = operand_of(node.inputs[0])
    if operand is None or operand.is_constant:
        return None

    def emit() -> None:
        name = context.u8_input(operand, node)
        if operand.params == out[0]:
            output = context.quantized_output(value, out[0])
            context.node(node, "max_pool", [name], output, _attributes(node))
            return
        between = context.temporary(f"{pooled.name}_u8", pooled, operand.params)
        context.node(node, "max_pool", [name], between, _attributes(node))
        table = out[0].quantize(operand.params.dequantize(context.codes))
        context.lookup(node, between, table, context.quantized_output(value, out[0]))

    return Match([operand.source], emit)


def max_pool(context: Context, value: ir.Value) -> Match | None:
    """MaxPool or GlobalMaxPool of float values, or of integers pooled without a DQ."""
    node = value.producer()
    if node is None or node.op_type not in MAX_POOLS or value.index() != 0:
        return None

    def emit() -> None:
        name = context.float_input(node.inputs[0])
        context.node(node, "max_pool", [name], output_like(context, value, [name]), _attributes(node))

    return Match(dynamic(node.inputs[:1]), emit)


def float_average_pool(context: Context, value: ir.Value) -> Match | None:
    """AveragePool or GlobalAveragePool in float32."""
    node = value.producer()
    attributes = None if node is None or node.op_type == "ReduceMean" else _average_attributes(node)
    if node is None or attributes is None:
        return None

    def emit() -> None:
        name = context.float_input(node.inputs[0])
        context.node(node, "average_pool", [name], context.float_output(value), attributes)

    return Match(dynamic(node.inputs[:1]), emit)
