"""Operator `transpose`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def transpose(call: Call) -> Array:
    """Permutes the axes."""
    return np.transpose(call.array(0), call.attributes["perm"])
