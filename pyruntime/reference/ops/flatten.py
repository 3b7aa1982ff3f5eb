"""Operator `flatten`."""

import math

from pyruntime.program import Array
from pyruntime.reference.call import Call


def flatten(call: Call) -> Array:
    """ONNX Flatten to `[product before axis, product from axis]`."""
    x, axis = call.array(0), call.attributes["axis"]
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
