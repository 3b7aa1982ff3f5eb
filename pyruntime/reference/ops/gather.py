"""Operator `gather`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def gather(call: Call) -> Array:
    """ONNX Gather: slices of the data along `axis`; negative indices count from the end."""
    return np.take(call.array(0), call.array(1), axis=call.attributes["axis"])
