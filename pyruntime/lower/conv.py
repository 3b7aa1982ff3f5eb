"""Rules for Conv, Gemm and MatMul by a constant."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph import dims
from pyruntime.lower.clamp import Bounds, peel
from pyruntime.lower.context import Context, Match, dynamic
from pyruntime.lower.elementwise import AddTerms, add_terms
from pyruntime.lower.layers import (
    IntegerLayer,
    Layer,
    emit_float,
    emit_integer,
    find_layer,
    integer_layer,
)
from pyruntime.lower.quantization import Operand, Params, operand_of, params_of, real_constant


def quantized_layer_with_residual(context: Context, value: ir.Value) -> Match | None:
    """Q <- [Relu|Clip] <- Add(DQ <- Q <- [Relu|Clip] <- layer, DQ): the sum rides on the layer.

    Only if the layer's result has no other reader and no broadcasting is involved.
    """
    out = _quantize_output(context, value)
    if out is None:
        return None
    node, params = out
    assert node.inputs[0] is not None
    total, bounds = peel(context, node.inputs[0])
    add = total.producer()
    if add is None or add.op_type != "Add" or not context.feeds_only(total):
        return None
    choices = [choice for choice in (0, 1) if _can_carry(context, add, choice)]
    if not choices:
        return None
    # Of two layers the later one: the other is ready by then.
    choice = max(choices, key=lambda c: _position(context, add.inputs[c]))
    carrier, residual = operand_of(add.inputs[choice]), operand_of(add.inputs[1 - choice])
    assert carrier is not None and residual is not None
    found, inner_bounds = _carried(context, carrier)
    assert found is not None

    def emit() -> None:
        attributes = inner_bounds.integer(carrier.params)
        attributes |= _residual_attributes(add_terms(carrier.params, residual.params, params))
        attributes |= bounds.integer(params, "add_")
        name = context.u8_input(residual, add)
        output = context.quantized_output(value, params)
        emit_integer(context, found, output, carrier.params, {**attributes, "residual": name})

    return Match([found.x.source, residual.source], emit)


def _residual_attributes(terms: AddTerms) -> dict[str, float]:
    return {"a_multiplier": terms.a, "b_multiplier": terms.b, "add_offset": terms.offset}


def _position(context: Context, value: ir.Value | None) -> int:
    """Where the layer behind DQ <- Q <- ... stands in the graph."""
    operand = operand_of(value)
    assert operand is not None
    found, _ = _carried(context, operand)
    return -1 if found is None else context.order[found.layer.node]


def _can_carry(context: Context, add: ir.Node, choice: int) -> bool:
    mine, other = add.inputs[choice], add.inputs[1 - choice]
    carrier, residual = operand_of(mine), operand_of(other)
    if carrier is None or residual is None or carrier.is_constant or residual.is_constant:
        return False
    if not context.feeds_only(mine) or not context.feeds_only(carrier.source):
        return False
    shape = dims(mine)
    if shape is None or shape != dims(other):
        return False
    return _carried(context, carrier)[0] is not None


def _carried(context: Context, carrier: Operand) -> tuple[IntegerLayer | None, Bounds]:
    """The layer that makes a quantized value (None if it is made otherwise) and the clamp before its Q."""
    quantize = carrier.source.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return None, Bounds()
    found = params_of(quantize)
    if found is None or found[0] != carrier.params or not context.feeds_only(quantize.inputs[0]):
        return None, Bounds()
    assert quantize.inputs[0] is not None
    inner, bounds = peel(context, quantize.inputs[0])
    return integer_layer(context, inner), bounds


def quantized_layer(context: Context, value: ir.Value) -> Match | None:
    """Q <- [Relu|Clip] <- layer with DQ input and DQ weight: one integer node."""
    out = _quantize_output(context, value)
    if out is None:
        return None
    node, params = out
    assert node.inputs[0] is not None
    inner, bounds = peel(context, node.inputs[0])
    found = integer_layer(context, inner)
    if found is None:
        return None

    def emit() -> None:
        output = context.quantized_output(value, params)
        emit_integer(context, found, output, params, bounds.integer(params))

    return Match([found.x.source], emit)


def integer_layer_to_float(context: Context, value: ir.Value) -> Match | None:
    """[Relu|Clip] <- layer with DQ input and DQ weight, without a Q: integer sums, float32 result."""
    inner, bounds = peel(context, value)
    found = integer_layer(context, inner)
    if found is None:
        return None
    return Match(
        [found.x.source],
        lambda: emit_integer(context, found, context.float_output(value), None, bounds.real()),
    )


def float_layer_with_residual(context: Context, value: ir.Value) -> Match | None:
    """[Relu|Clip] <- Add(layer, x) of equal shapes, the layer's result read by nothing else."""
    total, bounds = peel(context, value)
    add = total.producer()
    if add is None or add.op_type != "Add":
        return None
    for choice in (1, 0):
        mine, other = add.inputs[choice], add.inputs[1 - choice]
        if mine is None or other is None or mine is other or not context.feeds_only(mine):
            continue
        shape = dims(mine)
        layer = _float_layer(context, mine)
        if layer is None or shape is None or shape != dims(other) or real_constant(other) is not None:
            continue
        return _float_match(context, layer, value, bounds, other)
    return None


def float_layer(context: Context, value: ir.Value) -> Match | None:
    """[Relu|Clip] <- layer, in float32."""
    inner, bounds = peel(context, value)
    layer = _float_layer(context, inner)
    return None if layer is None else _float_match(context, layer, value, bounds, None)


def _float_layer(context: Context, value: ir.Value) -> Layer | None:
    """A layer that does not run on integers."""
    return find_layer(context, value) if integer_layer(context, value) is None else None


def _float_match(
    context: Context, layer: Layer, value: ir.Value, bounds: Bounds, residual: ir.Value | None
) -> Match:
    return Match(
        dynamic([layer.x, residual]),
        lambda: emit_float(context, layer, context.float_output(value), bounds.real(), residual),
    )


def _quantize_output(context: Context, value: ir.Value) -> tuple[ir.Node, Params] | None:
    """(node, params) if `value` is the output of a QuantizeLinear that alone reads its input."""
    node = value.producer()
    if node is None or node.op_type != "QuantizeLinear" or not context.feeds_only(node.inputs[0]):
        return None
    found = params_of(node)
    return None if found is None else (node, found[0])
