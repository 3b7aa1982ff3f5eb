"""Operator `average_pool`, integer and float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyruntime.numerics import fma, round_clamp
from pyruntime.program import Array
from pyruntime.reference.call import Call
from pyruntime.reference.ops.window import Windows


def average_pool(call: Call) -> Array:
    """Mean over the window: its cells inside the input, or inside the padded input (count_include_pad)."""
    x = call.array(0)
    integer = x.dtype == np.uint8
    centred = x.astype(np.float64) - (call.zero_point(0) if integer else 0)
    total, count = window_sums(centred, call.attributes)
    if not integer:
        return total / count
    multiplier = (call.attributes["multiplier"] / count).astype(np.float32)
    zero_point = call.out.zero_point
    assert zero_point is not None
    return round_clamp(fma(total, multiplier, np.float32(zero_point)), 0, 255, np.uint8)


def window_sums(x: Array, attributes: dict[str, Any]) -> tuple[Array, Array]:
    """Sum and number of cells under each window; x is float64 [N, C, (H,) W]."""
    if attributes.get("global", 0):
        axes = tuple(range(2, x.ndim))
        return x.sum(axis=axes, keepdims=True), np.asarray(float(math.prod(x.shape[2:])))
    window = Windows(
        x.shape[2:],
        attributes["kernel"],
        attributes["strides"],
        attributes["pads"],
        attributes["dilations"],
        bool(attributes.get("ceil_mode", 0)),
    )
    inside = window.pad(np.ones((1, 1, *x.shape[2:])), float(attributes.get("count_include_pad", 0)), 0.0)
    total = np.zeros((*x.shape[:2], *window.output))
    count = np.zeros((1, 1, *window.output))
    for (_, cells), (_, ones) in zip(window.taps(window.pad(x, 0.0)), window.taps(inside), strict=True):
        total += cells
        count += ones
    return total, np.maximum(count, 1)
