"""Operator `reduce_mean`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def reduce_mean(call: Call) -> Array:
    """Mean over `axes`."""
    axes, keepdims = tuple(call.attributes["axes"]), bool(call.attributes["keepdims"])
    return np.asarray(call.array(0).astype(np.float64).mean(axis=axes, keepdims=keepdims))
