"""Operator `reshape`."""

import math

from pyruntime.program import Array
from pyruntime.reference.call import Call


def reshape(call: Call) -> Array:
    """ONNX Reshape: 0 copies the dimension (unless allowzero), -1 infers it; of an empty array its nonzero
    dimensions decide.
    """
    x, shape = call.array(0), list(call.attributes["shape"])
    if not call.attributes.get("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if x.size == 0 and -1 in shape:
        known = [size for size in shape if size != -1]
        rest = math.prod(filter(None, x.shape)) // math.prod(filter(None, known))
        shape[shape.index(-1)] = rest if 0 in known else 0
    return x.reshape(shape)
