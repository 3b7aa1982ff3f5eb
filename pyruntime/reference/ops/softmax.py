"""Operator `softmax`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def softmax(call: Call) -> Array:
    """Max-subtracted softmax over `axis`."""
    x, axis = call.array(0).astype(np.float64), call.attributes["axis"]
    if x.size == 0:
        return x
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = e / e.sum(axis=axis, keepdims=True)
    return result
