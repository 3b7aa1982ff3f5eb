"""Rules for products of two computed tensors, and for attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.graph import get_float, get_int, rank
from pyruntime.lower.clamp import peel
from pyruntime.lower.context import Context, Match, dynamic, sources
from pyruntime.lower.quantization import Operand, Params, operand_of, params_of, real_constant, to_float32


def quantized_matmul(context: Context, value: ir.Value) -> Match | None:
    """Q <- [Relu|Clip] <- [* number] <- MatMul of two DQ: integer `matmul`."""
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or not context.feeds_only(quantize.inputs[0]):
        return None
    out = params_of(quantize)
    assert quantize.inputs[0] is not None
    inner, bounds = peel(context, quantize.inputs[0])
    found = _product(context, inner)
    if out is None or found is None:
        return None
    node, operands, factor = found

    def emit() -> None:
        attributes = _factors(operands, factor, out[0]) | bounds.integer(out[0])
        _emit(context, node, operands, context.quantized_output(value, out[0]), attributes)

    return Match(sources(operands), emit)


def matmul_to_float(context: Context, value: ir.Value) -> Match | None:
    """[Relu|Clip] <- [* number] <- MatMul of two DQ, without a Q: integer sums, float32 result."""
    inner, bounds = peel(context, value)
    found = _product(context, inner)
    if found is None:
        return None
    node, operands, factor = found

    def emit() -> None:
        attributes = _factors(operands, factor, None) | bounds.real()
        _emit(context, node, operands, context.float_output(value), attributes)

    return Match(sources(operands), emit)


def _product(context: Context, value: ir.Value) -> tuple[ir.Node, list[Operand], float] | None:
    """(node, its operands, number it is multiplied by)."""
    node, factor = value.producer(), 1.0
    if node is not None and node.op_type in ("Mul", "Div"):
        data, number = node.inputs[0], real_constant(node.inputs[1])
        if number is None and node.op_type == "Mul":
            data, number = node.inputs[1], real_constant(node.inputs[0])
        if (
            number is None
            or number.size != 1
            or number.ndim > (rank(data) or 0)
            or not context.feeds_only(data)
        ):
            return None
        factor = float(number.reshape(()))
        factor = factor if node.op_type == "Mul" else 1.0 / factor if factor else np.inf
        node = None if data is None else data.producer()
    if node is None or node.op_type != "MatMul" or not np.isfinite(factor):
        return None
    operands = [
        operand for x in node.inputs if (operand := operand_of(x)) is not None and not operand.is_constant
    ]
    return (node, operands, factor) if len(operands) == 2 else None


def _factors(operands: list[Operand], factor: float, out: Params | None) -> dict[str, Any]:
    step = 1.0 if out is None else out.scale
    multiplier = operands[0].params.scale * operands[1].params.scale * factor / step
    offset = 0.0 if out is None else float(out.zero_point)
    return {"multiplier": float(to_float32(multiplier)), "offset": offset}


def _emit(
    context: Context, node: ir.Node, operands: list[Operand], output: str, attributes: dict[str, Any]
) -> None:
    context.node(node, "matmul", [context.u8_input(x, node) for x in operands], output, attributes)


def quantized_attention(context: Context, value: ir.Value) -> Match | None:
    """Q <- Attention of three DQ."""
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or not context.feeds_only(quantize.inputs[0]):
        return None
    out, inner = params_of(quantize), quantize.inputs[0]
    if out is None or inner is None:
        return None
    return _attention(context, inner, value, out[0])


def attention_to_float(context: Context, value: ir.Value) -> Match | None:
    """Attention of three DQ, without a Q."""
    return _attention(context, value, value, None)


def _attention(context: Context, made: ir.Value, value: ir.Value, out: Params | None) -> Match | None:
    node = made.producer()
    if node is None or node.op_type != "Attention" or node.domain != "pyruntime":
        return None
    operands = [operand for x in node.inputs[:3] if (operand := operand_of(x)) is not None]
    if len(operands) != 3 or any(operand.is_constant for operand in operands):
        return None
    q, k, v = operands
    mask = node.inputs[3] if len(node.inputs) > 3 else None

    def emit() -> None:
        scale = get_float(node, "scale", 1.0)
        attributes = {
            "heads": get_int(node, "heads", 1),
            "multiplier": float(to_float32(q.params.scale * k.params.scale * scale)),
            "output_multiplier": float(to_float32(v.params.scale / (1.0 if out is None else out.scale))),
        }
        inputs = [context.u8_input(operand, node) for operand in operands]
        if mask is not None:
            inputs.append(context.float_input(mask))
        output = context.float_output(value) if out is None else context.quantized_output(value, out)
        context.node(node, "attention", inputs, output, attributes)

    return Match([*sources(operands), *dynamic([mask])], emit)
