"""Operator `unsqueeze`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def unsqueeze(call: Call) -> Array:
    """Inserts axes of size 1; `axes` count in the output's rank."""
    return np.expand_dims(call.array(0), tuple(call.attributes["axes"]))
