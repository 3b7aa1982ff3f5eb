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
    """Softmax with the exponentials, not their quotients, in 8 bits: what the runtime computes."""
    parts = _Attention(builder, node)
    largest = parts.emit("ReduceMax", parts.scores, axes=[-1], keepdims=1)
    weights = parts.eight_bits(parts.emit("Exp", parts.emit("Sub", parts.scores, largest)))
    total = parts.emit("ReduceSum", weights, parts.ints(-1), keepdims=1)
    parts.join(parts.emit("Div", parts.emit("MatMul", weights, parts.v), total))


def softmax_attention(builder: Builder, node: Node) -> None:
    """Softmax as one operator with 8 bits for its quotients, which is what other runtimes are made for."""
    parts = _Attention(builder, node)
    weights = parts.eight_bits(parts.emit("Softmax", parts.scores, axis=-1))
    parts.join(parts.emit("MatMul", weights, parts.v))


class _Attention:
    """What both forms share: heads by Reshape and Transpose, the scores, joining the heads again."""

    def __init__(self, builder: Builder, node: Node) -> None:
        self.builder, self.node = builder, node
        self.scale_q, self.scale_k, self.scale_v = (builder.quantization(x)[0] for x in node.inputs[:3])
        q = self._split(node.inputs[0], 0, 2, 1, 3)
        k = self._split(node.inputs[1], 0, 2, 3, 1)
        self.v = self._split(node.inputs[2], 0, 2, 1, 3)
        factor = self._number(node.attributes["multiplier"] / (self.scale_q * self.scale_k))
        self.scores = self.emit("Mul", self.emit("MatMul", q, k), factor)
        if len(node.inputs) > 3 and node.inputs[3]:
            self.scores = self.emit("Add", self.scores, builder.real(node.inputs[3]))

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.builder.emit(op, inputs, self.node.name, **attributes)

    def ints(self, *numbers: int) -> str:
        return self.builder.constant(f"{self.node.name}_ints", np.asarray(numbers, np.int64))

    def eight_bits(self, real: str) -> str:
        """`real`, which lies in 0..1, in steps of 1/255."""
        parameters = self.builder.parameters(f"{self.node.name}_weights", 1 / 255, 0, "u8")
        return self.emit("DequantizeLinear", self.emit("QuantizeLinear", real, *parameters), *parameters)

    def join(self, mean: str) -> None:
        """The node's output from the heads' [N, heads, S, e]."""
        scale_y, _ = self.builder.quantization(self.node.outputs[0])
        factor = self.node.attributes["output_multiplier"] * scale_y / self.scale_v
        if abs(factor - 1) > _SAME:
            mean = self.emit("Mul", mean, self._number(factor))
        joined = self.emit("Transpose", mean, perm=[0, 2, 1, 3])
        self.builder.finish(self.node, "Reshape", [joined, self.ints(0, 0, -1)])

    def _split(self, name: str, *perm: int) -> str:
        heads = self.ints(0, 0, self.node.attributes["heads"], -1)
        return self.emit("Transpose", self.emit("Reshape", self.builder.real(name), heads), perm=list(perm))

    def _number(self, real: float) -> str:
        return self.builder.constant(f"{self.node.name}_factor", np.float32(real))


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
