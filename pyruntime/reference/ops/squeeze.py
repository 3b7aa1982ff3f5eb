"""Operator `squeeze`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def squeeze(call: Call) -> Array:
    """Removes the axes of size 1 that `axes` names."""
    return np.squeeze(call.array(0), axis=tuple(call.attributes["axes"]))
