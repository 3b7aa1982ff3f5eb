"""Operator `prelu`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def prelu(call: Call) -> Array:
    """`x < 0 ? x * slope : x`, slope broadcast."""
    x = call.array(0)
    return np.where(x < 0, x * call.array(1), x)
