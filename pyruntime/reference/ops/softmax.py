"""Operator `softmax`."""

import numpy as np

from pyruntime import numerics
from pyruntime.program import Array
from pyruntime.reference.call import Call


def softmax(call: Call) -> Array:
    """Max-subtracted softmax over `axis`, float32 throughout; the sum in 16 lanes."""
    axis = call.attributes["axis"]
    x = np.moveaxis(numerics.flush(call.array(0)), axis, -1)
    if x.size == 0:
        return call.array(0)
    highest = np.fmax.reduce(x, axis=-1, keepdims=True, initial=-np.inf)
    e = numerics.exp(numerics.flush(x - highest))
    return np.moveaxis(numerics.flush(e / numerics.lane_sum(e)[..., None]), -1, axis)
