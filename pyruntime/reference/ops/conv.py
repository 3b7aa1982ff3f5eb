"""Operator `conv`, integer and float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyruntime.numerics import fma, round_clamp
from pyruntime.program import Array
from pyruntime.reference.call import Call
from pyruntime.reference.ops.window import Windows


def conv(call: Call) -> Array:
    """x `[N, C, (H,) W]`, w `[O, C/groups, (kh,) kw]`; epilogues: `finish_integer`, `finish_float`."""
    x, weight = call.array(0), call.array(1)
    if x.dtype == np.uint8:
        total = accumulate(x.astype(np.float64) - call.zero_point(0), weight, call.attributes)
        return finish_integer(total, call, channel_axis=1)
    return finish_float(accumulate(x, weight, call.attributes), call, channel_axis=1)


def accumulate(x: Array, weight: Array, attributes: dict[str, Any]) -> Array:
    """Sums in float64, exact for integers: every partial sum is a whole number far below 2**53."""
    groups = attributes["groups"]
    batch, channels = x.shape[:2]
    outputs, depth = weight.shape[:2]
    if channels != depth * groups:
        raise ValueError(f"{channels} channels, the weight takes {depth} x {groups} groups")
    window = Windows(
        x.shape[2:], weight.shape[2:], attributes["strides"], attributes["pads"], attributes["dilations"]
    )
    padded = window.pad(x.astype(np.float64), 0.0)
    kernel = weight.astype(np.float64).reshape(groups, outputs // groups, depth, *weight.shape[2:])
    pixels = math.prod(window.output)
    total = np.zeros((batch, groups, outputs // groups, pixels))
    for tap, cells in window.taps(padded):
        index: tuple[Any, ...] = (slice(None), slice(None), slice(None), *tap)
        columns = cells.reshape(batch, groups, depth, pixels)
        total += np.matmul(kernel[index], columns)
    return total.reshape(batch, outputs, *window.output)


def finish_integer(total: Array, call: Call, channel_axis: int) -> Array:
    """The integer epilogue: `fma(acc, multiplier, offset)`, rounding, clamping, residual add."""
    attributes, residual = call.attributes, call.optional(4)
    shape = [1] * total.ndim
    shape[channel_axis] = -1
    f = fma(total, call.array(2).reshape(shape), call.array(3).reshape(shape))
    if call.out.dtype == "f32":
        return np.clip(f, attributes.get("lo", -np.inf), attributes.get("hi", np.inf))
    q = round_clamp(f, attributes.get("lo", 0), attributes.get("hi", 255), np.uint8)
    if residual is None:
        return q
    inner = fma(residual, attributes["b_multiplier"], attributes["add_offset"])
    f = fma(q, attributes["a_multiplier"], inner)
    return round_clamp(f, attributes.get("add_lo", 0), attributes.get("add_hi", 255), np.uint8)


def finish_float(total: Array, call: Call, channel_axis: int) -> Array:
    """The float epilogue: bias, residual, clamp."""
    bias, residual = call.optional(2), call.optional(3)
    if bias is not None:
        shape = [1] * total.ndim
        shape[channel_axis] = -1
        total = total + bias.astype(np.float64).reshape(shape)
    result = total.astype(np.float32)
    if residual is not None:
        result = result + residual
    return np.clip(result, call.attributes.get("lo", -np.inf), call.attributes.get("hi", np.inf))
