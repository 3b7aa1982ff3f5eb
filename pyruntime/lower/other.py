"""Rules for Q and DQ on their own, and for operators that exist in float only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph import constant, get_float, get_int, get_ints, label
from pyruntime.lower.context import Context, Match, dynamic
from pyruntime.lower.quantization import operand_of, params_of, real_constant


def quantize(context: Context, value: ir.Value) -> Match | None:
    """Q of a value that is computed in float."""
    node = value.producer()
    if node is None or node.op_type != "QuantizeLinear":
        return None
    found = params_of(node)
    if found is None:
        raise ModelError(
            f"node {label(node)}: only 8-bit activations with one scale and zero point can be run"
        )

    def emit() -> None:
        name = context.float_input(node.inputs[0])
        context.node(node, "quantize", [name], context.quantized_output(value, found[0]))

    return Match(dynamic(node.inputs[:1]), emit)


def dequantize(context: Context, value: ir.Value) -> Match | None:
    """DQ whose result is needed in float; that of a constant is a float constant."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    array, operand = real_constant(value), operand_of(value)
    if array is not None:
        if value in context.exposed:
            raise ModelError(f"output {value.name!r} is a constant; remove it from the outputs")

        def emit_constant() -> None:
            context.names[value] = context.constant(f"{value.name}_constant", array, "f32 dequantized")

        return Match([], emit_constant)
    if operand is None:
        return _dequantize_int32(context, value, node)

    def emit() -> None:
        name = context.u8_input(operand, node)
        context.node(node, "dequantize", [name], context.float_output(value))

    return Match([operand.source], emit)


def _dequantize_int32(context: Context, value: ir.Value, node: ir.Node) -> Match:
    scale, zero_point, source = constant(node.inputs[1]), constant(node.inputs[2]), node.inputs[0]
    kind = source.dtype if source is not None else None
    if source is None or scale is None or zero_point is None or scale.size != 1 or kind != ir.DataType.INT32:
        raise ModelError(
            f"node {label(node)}: only 8-bit activations with one scale and zero point can be run"
        )

    def emit() -> None:
        name = context.float_input(source)
        described = context.program.values[name]
        wanted = (float(np.float32(scale.reshape(()))), int(zero_point.reshape(())))
        if described.scale is not None and (described.scale, described.zero_point) != wanted:
            raise ModelError(f"node {label(node)}: its input is dequantized with two different scales")
        described.scale, described.zero_point = wanted
        context.node(node, "dequantize", [name], context.float_output(value))

    return Match([source], emit)


def float_matmul(context: Context, value: ir.Value) -> Match | None:
    """MatMul of two computed values (by a constant matrix it is a layer)."""
    return _plain(context, value, "MatMul", "matmul")


def float_gemm(context: Context, value: ir.Value) -> Match | None:
    """A Gemm whose matrix is computed has no form here."""
    node = value.producer()
    if node is None or node.op_type != "Gemm":
        return None
    raise ModelError(f"node {label(node)}: its second input must be a constant matrix")


def cast(context: Context, value: ir.Value) -> Match | None:
    """Cast to float32."""
    return _plain(context, value, "Cast", "cast")


def float_softmax(context: Context, value: ir.Value) -> Match | None:
    """Softmax."""
    node = value.producer()
    if node is None or node.op_type != "Softmax":
        return None
    return _plain(context, value, "Softmax", "softmax", axis=get_int(node, "axis", -1))


def float_reduce_mean(context: Context, value: ir.Value) -> Match | None:
    """ReduceMean."""
    node = value.producer()
    if node is None or node.op_type != "ReduceMean":
        return None
    axes, keepdims = get_ints(node, "axes") or [], get_int(node, "keepdims", 1)
    return _plain(context, value, "ReduceMean", "reduce_mean", axes=axes, keepdims=keepdims)


def float_layer_norm(context: Context, value: ir.Value) -> Match | None:
    """LayerNormalization."""
    return _plain(context, value, "LayerNormalization", "layer_norm", **_normalization(value))


def _normalization(value: ir.Value) -> dict[str, Any]:
    node = value.producer()
    assert node is not None
    return {"axis": get_int(node, "axis", -1), "epsilon": get_float(node, "epsilon", 1e-5)}


def quantized_layer_norm(context: Context, value: ir.Value) -> Match | None:
    """Q <- LayerNormalization that nothing else reads: float inside, u8 out."""
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or not context.feeds_only(quantize.inputs[0]):
        return None
    out, inner = params_of(quantize), quantize.inputs[0]
    node = None if inner is None else inner.producer()
    if out is None or inner is None or node is None or node.op_type != "LayerNormalization":
        return None

    def emit() -> None:
        inputs = [context.float_input(x) for x in node.inputs]
        output = context.quantized_output(value, out[0])
        context.node(node, "layer_norm", inputs, output, _normalization(inner))

    return Match(dynamic(node.inputs), emit)


def float_where(context: Context, value: ir.Value) -> Match | None:
    """Where, its condition a float32 tensor."""
    return _plain(context, value, "Where", "where")


def _plain(
    context: Context, value: ir.Value, op_type: str, op: str, **attributes: int | float | list[int]
) -> Match | None:
    """All inputs in float, one output, attributes as given."""
    node = value.producer()
    if node is None or node.op_type != op_type:
        return None

    def emit() -> None:
        inputs = [context.float_input(x) for x in node.inputs]
        context.node(node, op, inputs, context.float_output(value), dict(attributes))

    return Match(dynamic(node.inputs), emit)
