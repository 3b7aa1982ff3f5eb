"""Operator `resize`, nearest and linear."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def resize(call: Call) -> Array:
    """ONNX Resize, one axis after the other."""
    x, attributes = call.array(0), call.attributes
    scales, sizes = _scales_and_sizes(x.shape, attributes)
    for axis, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        if scale == 1 and size == x.shape[axis]:
            continue
        position = _positions(x.shape[axis], size, scale, attributes["coordinate_transformation_mode"])
        if attributes["mode"] == "nearest":
            rule = attributes.get("nearest_mode", "round_prefer_floor")
            x = np.take(x, _nearest(position, x.shape[axis], rule), axis=axis)
        else:
            x = _linear(x, position, axis)
    return x


def _scales_and_sizes(shape: tuple[int, ...], attributes: dict[str, Any]) -> tuple[list[float], list[int]]:
    if "sizes" in attributes:
        sizes = list(attributes["sizes"])
        return [size / max(old, 1) for size, old in zip(sizes, shape, strict=True)], sizes
    scales = list(attributes["scales"])
    return scales, [int(np.floor(old * scale)) for old, scale in zip(shape, scales, strict=True)]


def _positions(old: int, new: int, scale: float, mode: str) -> Array:
    """Where each output index falls in the input."""
    index = np.arange(new, dtype=np.float64)
    if mode == "asymmetric":
        position: Array = index / scale
        return position
    if mode == "align_corners":
        return index * ((old - 1) / (new - 1) if new > 1 else 0.0)
    if mode == "pytorch_half_pixel" and new == 1:
        return np.zeros(new)
    result: Array = (index + 0.5) / scale - 0.5
    return result


def _nearest(position: Array, old: int, rule: str) -> Array:
    if rule == "round_prefer_floor":
        rounded = np.ceil(position - 0.5)
    elif rule == "round_prefer_ceil":
        rounded = np.floor(position + 0.5)
    else:
        rounded = np.floor(position) if rule == "floor" else np.ceil(position)
    return np.clip(rounded, 0, max(old - 1, 0)).astype(np.int64)


def _linear(x: Array, position: Array, axis: int) -> Array:
    last = x.shape[axis] - 1
    position = np.clip(position, 0, last)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, last)
    shape = [1] * x.ndim
    shape[axis] = -1
    weight = (position - low).reshape(shape)
    result: Array = np.take(x, low, axis=axis) * (1 - weight) + np.take(x, high, axis=axis) * weight
    return result
