"""Operator `sub`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def sub(call: Call) -> Array:
    """Float `a - b`, clamped."""
    result: Array = call.array(0) - call.array(1)
    return np.clip(result, call.attributes.get("lo", -np.inf), call.attributes.get("hi", np.inf))
