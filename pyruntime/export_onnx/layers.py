"""Layers with weights, additions and multiplications: where scales are recovered from multipliers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.errors import ModelError
from pyruntime.export_onnx.builder import Builder, real_clamp
from pyruntime.program import Array, Node

# A constant that rounds to less than this share of an output step is noise of float32, and left out.
_NOISE_STEPS = 1e-3
# A bias as int32 in units of s_x * s_w is what integer runtimes fuse; it stays float where that would lose
# more.
_MAX_BIAS_ERROR_STEPS = 0.05


def linear(builder: Builder, node: Node) -> None:
    """`conv` and `dense`, integer and float, with or without a residual."""
    program, value = builder.program, builder.program.values[node.outputs[0]]
    x, weight = node.inputs[0], program.constants[node.inputs[1]].array
    integer = program.dtype(x) != "f32"
    position = 4 if integer else 3
    residual = node.inputs[position] if len(node.inputs) > position else ""
    if not integer:
        bias = builder.real(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        op, inputs, attributes = _linear_operator(builder, node, builder.real(node.inputs[1]), bias)
        if residual:
            inputs = [builder.emit(op, inputs, node.name, **attributes), builder.real(residual)]
            op, attributes = "Add", {}
        builder.finish(node, op, inputs, **attributes)
        return
    scale_x, _ = builder.quantization(x)
    scale_y, zero_y = builder.quantization(value.name)
    scale_1, zero_1 = scale_y, zero_y
    if residual:  # the sum before the addition is rounded to a step of its own
        a, b = node.attributes["a_multiplier"], node.attributes["b_multiplier"]
        scale_r, zero_r = builder.quantization(residual)
        scale_1 = float(np.float32(a * scale_y))
        zero_1 = round((zero_y - zero_r * b - node.attributes["add_offset"]) / a)
        if not 0 <= zero_1 <= 255:
            raise ModelError(f"node {node.name!r}: zero point {zero_1} before its addition has no u8 form")
    multiplier = program.constants[node.inputs[2]].array.astype(np.float64)
    offset = program.constants[node.inputs[3]].array.astype(np.float64)
    if np.any(multiplier < 0):
        raise ModelError(f"node {node.name!r}: a negative multiplier has no ONNX scale")
    dead = multiplier == 0.0  # a channel whose weights do not count
    scale_w = np.where(dead, 1.0, multiplier * scale_1 / scale_x).astype(np.float32)
    weight = np.where(dead.reshape(-1, *[1] * (weight.ndim - 1)), np.int8(0), weight)
    real_bias = (offset - zero_1) * scale_1
    bias = _bias(builder, node.name, real_bias, scale_x * scale_w.astype(np.float64), scale_1)
    real_weight = builder.dequantized(node.inputs[1], weight, scale_w)
    op, inputs, attributes = _linear_operator(builder, node, real_weight, bias)
    if residual:
        real = builder.emit(op, inputs, node.name, **attributes)
        bounds = real_clamp(node.attributes, "lo", "hi", "u8", scale_1, zero_1)
        if bounds != (None, None):
            real = builder.clamp(real, node.name, bounds)
        name = builder.unique(f"{value.name}_before_add")
        rounded = builder.quantize(real, name, scale_1, zero_1, "u8", None)
        parameters = builder.parameters(name, scale_1, zero_1, "u8")
        first = builder.emit("DequantizeLinear", [rounded, *parameters], name)
        bounds = real_clamp(node.attributes, "add_lo", "add_hi", value.dtype, scale_y, zero_y)
        second = _scaled(builder, builder.real(residual), node.name, b * scale_y / scale_r)
        builder.chain(node, "Add", [first, second], bounds, {})
        return
    builder.finish(node, op, inputs, **attributes)


def _linear_operator(
    builder: Builder, node: Node, weight: str, bias: str | None
) -> tuple[str, list[str], dict[str, Any]]:
    """The ONNX operator, its inputs and attributes."""
    x = builder.real(node.inputs[0])
    attributes = node.attributes
    if node.op == "conv":
        extra = {
            "strides": attributes["strides"],
            "pads": attributes["pads"],
            "dilations": attributes["dilations"],
            "group": attributes["groups"],
        }
        return "Conv", [x, weight, *([bias] if bias else [])], extra
    if len(builder.program.values[node.inputs[0]].shape) == 2:
        return "Gemm", [x, weight, *([bias] if bias else [])], {"transB": 1}
    transposed = builder.emit("Transpose", [weight], node.name, perm=[1, 0])
    if bias is None:
        return "MatMul", [x, transposed], {}
    product = builder.emit("MatMul", [x, transposed], node.name)
    return "Add", [product, bias], {}


def _bias(builder: Builder, name: str, bias: Array, step: Array, scale_y: float) -> str | None:
    """The bias in reals: int32 in units of `step`, or float where int32 cannot hold it well; None if it is
    zero.
    """
    if not np.any(np.abs(bias) > _NOISE_STEPS * scale_y):
        return None
    quantized = np.rint(bias / step)
    error = np.abs(quantized * step - bias) / scale_y
    if np.any(np.abs(quantized) >= 2**31) or np.any(error > _MAX_BIAS_ERROR_STEPS):
        return builder.constant(f"{name}_bias", bias.astype(np.float32))
    return builder.dequantized(f"{name}_bias", quantized.astype(np.int32), step.astype(np.float32))


def add(builder: Builder, node: Node) -> None:
    """Integer `add`: `a * a_multiplier + b * b_multiplier + offset` in steps of the output."""
    program, value = builder.program, builder.program.values[node.outputs[0]]
    if value.dtype == "f32":
        builder.finish(node, "Add", [builder.real(name) for name in node.inputs])
        return
    scale_y, zero_y = builder.quantization(value.name)
    rest = node.attributes["offset"] - zero_y
    terms, signs = [], []
    for name, key in zip(node.inputs, ("a_multiplier", "b_multiplier"), strict=True):
        multiplier = node.attributes[key]
        signs.append(-1.0 if multiplier < 0 else 1.0)
        if name in program.constants:
            array = program.constants[name].array
            terms.append(builder.dequantized(name, array, float(abs(multiplier) * scale_y)))
            continue
        scale, zero_point = builder.quantization(name)
        rest += multiplier * zero_point
        factor = abs(multiplier) * scale_y / scale
        terms.append(_scaled(builder, builder.real(name), node.name, factor))
    if abs(rest) > _NOISE_STEPS:
        shift = builder.constant(f"{node.name}_shift", np.float32(rest * scale_y * signs[0]))
        terms[0] = builder.emit("Add", [terms[0], shift], node.name)
    if signs == [-1.0, 1.0]:
        terms.reverse()
    if signs == [-1.0, -1.0]:
        terms[0] = builder.emit("Neg", terms[:1], node.name)
    builder.finish(node, "Add" if signs == [1.0, 1.0] else "Sub", terms)


def mul(builder: Builder, node: Node) -> None:
    """Integer `mul`: `(a - a_zero_point) * (b - b_zero_point) * multiplier + offset` in output steps."""
    program, value = builder.program, builder.program.values[node.outputs[0]]
    if value.dtype == "f32":
        builder.finish(node, "Mul", [builder.real(name) for name in node.inputs])
        return
    scale_y, zero_y = builder.quantization(value.name)
    factor = node.attributes["multiplier"] * scale_y
    if factor <= 0:
        raise ModelError(f"node {node.name!r}: multiplier {node.attributes['multiplier']} has no ONNX form")
    if abs(node.attributes["offset"] - zero_y) > _NOISE_STEPS:
        raise ModelError(
            f"node {node.name!r}: offset {node.attributes['offset']} is not the output's zero point"
        )
    for name in node.inputs:
        if name not in program.constants:
            factor /= builder.quantization(name)[0]
    terms = []
    for name, key in zip(node.inputs, ("a_zero_point", "b_zero_point"), strict=True):
        if name in program.constants:  # its scale is whatever the multiplier leaves
            terms.append(
                builder.dequantized(name, program.constants[name].array, factor, node.attributes[key])
            )
            factor = 1.0
            continue
        if builder.quantization(name)[1] != node.attributes[key]:
            raise ModelError(f"node {node.name!r}: {key} is not the zero point of {name!r}")
        terms.append(builder.real(name))
    terms[0] = _scaled(builder, terms[0], node.name, factor)
    builder.finish(node, "Mul", terms)


def _scaled(builder: Builder, real: str, name: str, factor: float) -> str:
    """`real * factor`, which is `real` itself when the factor is 1 up to float32 rounding."""
    if abs(factor - 1.0) < 1e-5:
        return real
    return builder.emit("Mul", [real, builder.constant(f"{name}_factor", np.float32(factor))], name)
