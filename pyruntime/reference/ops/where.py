"""Operator `where`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def where(call: Call) -> Array:
    """The second input where the first is not 0 (NaN is not 0), else the third."""
    return np.where(call.array(0) != 0, call.array(1), call.array(2))
