"""Scales and zero points as the model states them, and the u8 form every activation takes in a program."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import numerics
from pyruntime.errors import ModelError
from pyruntime.graph import constant, get_int, is_constant, label
from pyruntime.program import Array

_INTEGERS = {ir.DataType.UINT8: 0, ir.DataType.INT8: 128}
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Params:
    """Per-tensor quantization of a u8 activation; s8 ones are already moved by 128, which is exact."""

    scale: float
    zero_point: int

    def quantize(self, x: float | Array) -> Array:
        """float32 to u8, exactly as QuantizeLinear would."""
        return numerics.quantize(x, self.scale, self.zero_point, np.uint8)

    def dequantize(self, q: Array) -> Array:
        """u8 to float32, exactly as DequantizeLinear would."""
        return numerics.dequantize(q, self.scale, self.zero_point)

    def bound(self, x: float) -> int:
        """The u8 that x quantizes to; monotone, so clamping before and after quantizing are the same."""
        return int(self.quantize(np.float32(x)))


@dataclass(frozen=True)
class Operand:
    """A float value of the model that is the dequantized form of the integer value `source`."""

    source: ir.Value
    params: Params
    signed: bool

    @property
    def is_constant(self) -> bool:
        return is_constant(self.source)


def params_of(node: ir.Node) -> tuple[Params, bool] | None:
    """(u8 params, was s8) of a Q or DQ of 8-bit activations with one scale, else None."""
    scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
    integer = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    if integer is None or scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        return None
    kind = integer.dtype if integer.dtype is not None else ir.DataType.from_numpy(zero_point.dtype)
    if kind not in _INTEGERS:
        return None
    value = float(np.float32(scale.reshape(())))
    if not math.isfinite(value) or value <= 0:
        raise ModelError(f"node {label(node)}: scale {value}, expected a finite number above 0")
    moved = int(zero_point.reshape(())) + _INTEGERS[kind]
    return Params(value, moved), kind == ir.DataType.INT8


def operand_of(value: ir.Value | None) -> Operand | None:
    """The integer value behind a dequantized one, or None if `value` is not the output of such a node."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    found = params_of(node)
    return None if found is None else Operand(node.inputs[0], *found)


def real_constant(value: ir.Value | None) -> Array | None:
    """float32 array of an initializer, or of a DequantizeLinear of one; None for anything else."""
    array = constant(value)
    if array is not None or value is None:
        return None if array is None or array.dtype != np.float32 else array
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    quantized = constant(node.inputs[0])
    if quantized is None:
        return None
    scale, zero_point = spread(node, quantized.shape)
    return numerics.dequantize(quantized.astype(np.int64), scale, zero_point)


def spread(node: ir.Node, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Scale and zero point of a DequantizeLinear, shaped to broadcast over `shape`."""
    scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
    if scale is None or zero_point is None:
        raise ModelError(f"node {label(node)}: scale and zero point must be constant")
    zero_point = zero_point.astype(np.int64)
    if scale.size == 1:
        return scale.reshape(()).astype(np.float32), zero_point.reshape(-1)[0]
    axis = get_int(node, "axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    block = get_int(node, "block_size", 0)
    if block:
        cut = [slice(None)] * len(shape)
        cut[axis] = slice(0, shape[axis])
        repeated = [np.repeat(x, block, axis=axis)[tuple(cut)] for x in (scale, zero_point)]
        return repeated[0].astype(np.float32), repeated[1]
    view = [1] * len(shape)
    view[axis] = -1
    return scale.astype(np.float32).reshape(view), zero_point.reshape(view)


def to_float32(x: Array | float) -> Array:
    """float64 to float32: overflow saturates (the clamp after it decides), subnormals become zero."""
    return numerics.flush(np.clip(np.asarray(x, dtype=np.float64), -LARGEST, LARGEST))
