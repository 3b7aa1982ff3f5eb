"""Rules for sums, products and functions of one argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime import numerics
from pyruntime.graph import get_float, get_string
from pyruntime.lower.clamp import bounds_of, peel
from pyruntime.lower.context import Context, Match, dynamic, sources
from pyruntime.lower.quantization import Operand, Params, operand_of, params_of, real_constant, to_float32
from pyruntime.program import Array

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_FUNCTIONS = {
    "LeakyRelu": "leaky_relu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "Tanh": "tanh",
    "Silu": "silu",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Erf": "erf",
    "Neg": "neg",
    "Abs": "abs",
    "Reciprocal": "reciprocal",
}


@dataclass(frozen=True)
class AddTerms:
    """`y = a * qa + b * qb + offset` on raw integers, each exactly a float32."""

    a: float
    b: float
    offset: float


def add_terms(left: Params, right: Params, out: Params, sign: float = 1.0) -> AddTerms:
    """Factors of the integer sum (difference for sign -1) of two quantized values."""
    a, b = left.scale / out.scale, sign * right.scale / out.scale
    offset = out.zero_point - a * left.zero_point - b * right.zero_point
    return AddTerms(float(to_float32(a)), float(to_float32(b)), float(to_float32(offset)))


def quantized_sum(context: Context, value: ir.Value) -> Match | None:
    """Q <- [Relu|Clip] <- Add or Sub of two DQ: integer `add`."""
    found = _quantized_pair(context, value, ("Add", "Sub"))
    if found is None:
        return None
    node, left, right, params, bounds = found
    terms = add_terms(left.params, right.params, params, -1.0 if node.op_type == "Sub" else 1.0)
    attributes = {"a_multiplier": terms.a, "b_multiplier": terms.b, "offset": terms.offset, **bounds}
    return _binary_match(context, value, node, "add", (left, right), params, attributes)


def quantized_product(context: Context, value: ir.Value) -> Match | None:
    """Q <- [Relu|Clip] <- Mul of two DQ: integer `mul`."""
    found = _quantized_pair(context, value, ("Mul",))
    if found is None:
        return None
    node, left, right, params, bounds = found
    attributes = {
        "a_zero_point": left.params.zero_point,
        "b_zero_point": right.params.zero_point,
        "multiplier": float(to_float32(left.params.scale * right.params.scale / params.scale)),
        "offset": float(params.zero_point),
        **bounds,
    }
    return _binary_match(context, value, node, "mul", (left, right), params, attributes)


def _quantized_pair(
    context: Context, value: ir.Value, ops: tuple[str, ...]
) -> tuple[ir.Node, Operand, Operand, Params, dict[str, Any]] | None:
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or not context.feeds_only(quantize.inputs[0]):
        return None
    out = params_of(quantize)
    assert quantize.inputs[0] is not None
    total, bounds = peel(context, quantize.inputs[0])
    node = total.producer()
    if out is None or node is None or node.op_type not in ops:
        return None
    left, right = (operand_of(x) for x in node.inputs)
    if left is None or right is None or (left.is_constant and right.is_constant):
        return None
    return node, left, right, out[0], bounds.integer(out[0])


def _binary_match(
    context: Context,
    value: ir.Value,
    node: ir.Node,
    op: str,
    operands: tuple[Operand, Operand],
    params: Params,
    attributes: dict[str, Any],
) -> Match:
    def emit() -> None:
        inputs = [context.u8_input(operand, node) for operand in operands]
        context.node(node, op, inputs, context.quantized_output(value, params), attributes)

    return Match(sources(operands), emit)


# ---------------------------------------------------------------- functions of one quantized argument


def quantized_function(context: Context, value: ir.Value) -> Match | None:
    """Q <- functions of one argument <- DQ: a table of 256 results, exactly the QDQ definition.

    Takes Relu, Clip, Sigmoid, ..., PRelu with one slope, and +, -, *, / with one constant number.
    """
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return None
    out = params_of(quantize)
    if out is None:
        return None
    chain: list[ir.Node] = []
    inner = quantize.inputs[0]
    while inner is not None and (operand := operand_of(inner)) is None:
        node = inner.producer()
        argument = None if node is None else _argument(node)
        if node is None or argument is None:
            return None
        chain.append(node)
        inner = argument
    if inner is None or operand is None or operand.is_constant:
        return None
    source = operand

    def emit() -> None:
        if not chain and source.params == out[0] and value not in context.exposed:
            context.names[value] = context.u8_input(source, quantize)
            return
        x = source.params.dequantize(context.codes)
        for node in reversed(chain):
            x = _apply(node, x)
        name = context.u8_input(source, quantize)
        output = context.quantized_output(value, out[0])
        context.lookup(chain[-1] if chain else quantize, name, out[0].quantize(x), output)

    return Match([source.source], emit)


def _argument(node: ir.Node) -> ir.Value | None:
    """The one dynamic input of a node that computes a function of it, the same for all elements."""
    if bounds_of(node) is not None or function_of(node) is not None:
        return node.inputs[0]
    if node.op_type not in _BINARY and node.op_type != "PRelu":
        return None
    numbers = [real_constant(x) for x in node.inputs]
    for position, other in ((0, 1), (1, 0)):
        number = numbers[other]
        x = node.inputs[position]
        if number is None or number.size != 1 or numbers[position] is not None or x is None:
            continue
        rank = len(x.shape) if x.shape is not None else -1
        if number.ndim <= rank and (node.op_type != "PRelu" or position == 0):
            return x
    return None


def _apply(node: ir.Node, x: Array) -> Array:
    """The node on float32 numbers, rounded to float32."""
    bounds = bounds_of(node)
    if bounds is not None:
        return numerics.unary("clip", x, bounds.real())
    function = function_of(node)
    if function is not None:
        return numerics.unary(function[0], x, function[1])
    left, right = (x if (c := real_constant(v)) is None else c.reshape(()) for v in node.inputs)
    with np.errstate(all="ignore"):
        if node.op_type == "PRelu":
            return np.where(left < 0, left * right, left)
        operation = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[node.op_type]
        result: Array = operation(left, right).astype(np.float32)
        return result


def function_of(node: ir.Node) -> tuple[str, dict[str, Any]] | None:
    """(`function`, its attributes) of the `unary` operator for a node, or None. Relu and Clip are bounds."""
    if node.op_type == "Gelu":
        return ("gelu_tanh" if get_string(node, "approximate", "none") == "tanh" else "gelu"), {}
    if node.op_type not in _FUNCTIONS:
        return None
    attributes: dict[str, Any] = {}
    if node.op_type == "LeakyRelu":
        attributes["alpha"] = get_float(node, "alpha", 0.01)
    elif node.op_type == "HardSigmoid":
        attributes = {"alpha": get_float(node, "alpha", 0.2), "beta": get_float(node, "beta", 0.5)}
    return _FUNCTIONS[node.op_type], attributes


# ---------------------------------------------------------------- float


def float_binary(context: Context, value: ir.Value) -> Match | None:
    """[Relu|Clip] <- Add, Sub, Mul or Div in float32."""
    inner, bounds = peel(context, value)
    node = inner.producer()
    if node is None or node.op_type not in _BINARY:
        return None

    def emit() -> None:
        inputs = [context.float_input(x) for x in node.inputs]
        context.node(node, _BINARY[node.op_type], inputs, context.float_output(value), bounds.real())

    return Match(dynamic(node.inputs), emit)


def float_function(context: Context, value: ir.Value) -> Match | None:
    """Relu, Clip, Sigmoid, ... in float32."""
    node = value.producer()
    if node is None:
        return None
    bounds, function = bounds_of(node), function_of(node)
    if bounds is not None:
        relu = node.op_type == "Relu"
        attributes = {"function": "relu"} if relu else {"function": "clip", **bounds.real()}
    elif function is not None:
        attributes = {"function": function[0], **function[1]}
    else:
        return None

    def emit() -> None:
        name = context.float_input(node.inputs[0])
        context.node(node, "unary", [name], context.float_output(value), attributes)

    return Match(dynamic(node.inputs[:1]), emit)


def float_prelu(context: Context, value: ir.Value) -> Match | None:
    """PRelu in float32."""
    node = value.producer()
    if node is None or node.op_type != "PRelu":
        return None

    def emit() -> None:
        inputs = [context.float_input(x) for x in node.inputs]
        context.node(node, "prelu", inputs, context.float_output(value))

    return Match(dynamic(node.inputs), emit)
