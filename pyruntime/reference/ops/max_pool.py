"""Operator `max_pool`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call
from pyruntime.reference.ops.window import Windows


def max_pool(call: Call) -> Array:
    """Maximum over the cells inside the input; padding never wins."""
    x, attributes = call.array(0), call.attributes
    if attributes.get("global", 0):
        result: Array = x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
        return result
    window = Windows(
        x.shape[2:],
        attributes["kernel"],
        attributes["strides"],
        attributes["pads"],
        attributes["dilations"],
        bool(attributes.get("ceil_mode", 0)),
    )
    lowest = 0 if x.dtype == np.uint8 else -np.inf
    best = np.full((*x.shape[:2], *window.output), lowest, dtype=x.dtype)
    for _, cells in window.taps(window.pad(x, lowest)):
        best = np.maximum(best, cells)
    return best
