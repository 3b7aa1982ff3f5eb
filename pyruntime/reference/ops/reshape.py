"""Operator `reshape`."""

from pyruntime.program import Array
from pyruntime.reference.call import Call


def reshape(call: Call) -> Array:
    """ONNX Reshape: 0 copies the dimension (unless allowzero), -1 infers it."""
    x, shape = call.array(0), list(call.attributes["shape"])
    if not call.attributes.get("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if x.size == 0 and -1 in shape:
        known = [size for size in shape if size != -1]
        shape[shape.index(-1)] = 0 if 0 not in known else 1
    return x.reshape(shape)
