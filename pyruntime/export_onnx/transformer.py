"""Operators of transformers: products of computed tensors, attention, normalization, look-up, selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from pyruntime.export_onnx.builder import Builder
from pyruntime.program import Node

_SAME = 1e-6  # factors nearer to 1 than this are 1 up to the rounding of float32


def matmul(builder: Builder, node: Node) -> None:
    """MatMul; on integers with the factor that its multiplier holds beyond the scales."""
    inputs = [builder.real(name) for name in node.inputs]
    value = builder.program.values[node.outputs[0]]
    if builder.program.dtype(node.inputs[0]) == "f32":
        builder.finish(node, "MatMul", inputs)
        return
    scale_y, zero_y = builder.quantization(value.name)
    scales = [builder.quantization(name)[0] for name in node.inputs]
    factor = node.attributes["multiplier"] * scale_y / (scales[0] * scales[1])
    shift = (node.attributes["offset"] - zero_y) * scale_y
    steps = [("Mul", factor)] * (abs(factor - 1) > _SAME) + [("Add", shift)] * (shift != 0)
    op = "MatMul"
    for following, number in steps:
        constant = builder.constant(f"{node.name}_{following.lower()}", np.float32(number))
        inputs, op = [builder.emit(op, inputs, node.name), constant], following
    builder.finish(node, op, inputs)


def attention(builder: Builder, node: Node) -> None:
    """Heads by Reshape and Transpose; softmax with the exponentials, not their quotients, in 8 bits."""
    heads = node.attributes["heads"]
    value = builder.program.values[node.outputs[0]]
    scale_y, _ = builder.quantization(value.name)
    scale_q, scale_k, scale_v = (builder.quantization(name)[0] for name in node.inputs[:3])

    def emit(op: str, *inputs: str, **attributes: Any) -> str:
        return builder.emit(op, inputs, node.name, **attributes)

    def ints(*numbers: int) -> str:
        return builder.constant(f"{node.name}_ints", np.asarray(numbers, np.int64))

    def number(real: float) -> str:
        return builder.constant(f"{node.name}_factor", np.float32(real))

    def split(name: str, *perm: int) -> str:
        return emit("Transpose", emit("Reshape", builder.real(name), ints(0, 0, heads, -1)), perm=list(perm))

    q, k = split(node.inputs[0], 0, 2, 1, 3), split(node.inputs[1], 0, 2, 3, 1)
    v = split(node.inputs[2], 0, 2, 1, 3)
    scores = emit("Mul", emit("MatMul", q, k), number(node.attributes["multiplier"] / (scale_q * scale_k)))
    if len(node.inputs) > 3 and node.inputs[3]:
        scores = emit("Add", scores, builder.real(node.inputs[3]))
    exponentials = emit("Exp", emit("Sub", scores, emit("ReduceMax", scores, axes=[-1], keepdims=1)))
    parameters = builder.parameters(f"{node.name}_exponentials", 1 / 255, 0, "u8")
    codes = emit("QuantizeLinear", exponentials, *parameters)
    weights = emit("DequantizeLinear", codes, *parameters)
    mean = emit("Div", emit("MatMul", weights, v), emit("ReduceSum", weights, ints(-1), keepdims=1))
    factor = node.attributes["output_multiplier"] * scale_y / scale_v
    if abs(factor - 1) > _SAME:
        mean = emit("Mul", mean, number(factor))
    joined = emit("Transpose", mean, perm=[0, 2, 1, 3])
    builder.finish(node, "Reshape", [joined, ints(0, 0, -1)])


def layer_norm(builder: Builder, node: Node) -> None:
    """LayerNormalization."""
    inputs = [builder.real(name) for name in node.inputs if name]
    axis, epsilon = node.attributes["axis"], node.attributes["epsilon"]
    builder.finish(node, "LayerNormalization", inputs, axis=axis, epsilon=epsilon)


def where(builder: Builder, node: Node) -> None:
    """Where, its condition cast to a boolean."""
    condition, yes, no = (builder.real(name) for name in node.inputs)
    boolean = builder.emit("Cast", [condition], node.name, to=TensorProto.BOOL)
    builder.finish(node, "Where", [boolean, yes, no])


def gather(builder: Builder, node: Node) -> None:
    """Gather."""
    data = builder.real(node.inputs[0])
    _moved(builder, node, "Gather", [data, builder.real(node.inputs[1])], axis=node.attributes["axis"])


def expand(builder: Builder, node: Node) -> None:
    """Expand to a constant shape, or to one put together from dimensions of another value."""
    sizes = _sizes(builder, node, node.attributes["shape"])
    _moved(builder, node, "Expand", [builder.real(node.inputs[0]), sizes])


def slice_(builder: Builder, node: Node) -> None:
    """Slice."""
    inputs = [builder.real(node.inputs[0])]
    for key in ("starts", "ends", "axes", "steps"):
        if key == "ends":
            inputs.append(_sizes(builder, node, node.attributes["ends"]))
        else:
            inputs.append(builder.constant(f"{node.name}_{key}", np.asarray(node.attributes[key], np.int64)))
    _moved(builder, node, "Slice", inputs)


def _sizes(builder: Builder, node: Node, sizes: list[int]) -> str:
    """int64 vector: `sizes`, or dimension like_axes[i] of input 1."""
    like_axes = node.attributes.get("like_axes", [])
    if not like_axes:
        return builder.constant(f"{node.name}_sizes", np.asarray(sizes, np.int64))
    parts = []
    for size, axis in zip(sizes, like_axes, strict=True):
        if axis >= 0:
            parts.append(builder.emit("Shape", [node.inputs[1]], node.name, start=axis, end=axis + 1))
        else:
            parts.append(builder.constant(f"{node.name}_size", np.asarray([size], np.int64)))
    return builder.emit("Concat", parts, node.name, axis=0)


def _moved(builder: Builder, node: Node, op: str, inputs: list[str], **attributes: int) -> None:
    """Movement of numbers in steps of a scale, or of plain integers."""
    value = builder.program.values[node.outputs[0]]
    if value.dtype == "f32" or value.scale is not None:
        builder.finish(node, op, inputs, **attributes)
    else:
        builder.emit(op, inputs, node.name, value.name, **attributes)
