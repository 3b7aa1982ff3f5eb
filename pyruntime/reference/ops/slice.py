"""Operator `slice`."""

from pyruntime.program import Array
from pyruntime.reference.call import Call


def slice_(call: Call) -> Array:
    """ONNX Slice: bounds are clamped, negative ones count from the end. `ends[i]` is the dimension
    `like_axes[i]` of the second input if that is not -1.
    """
    x, attributes = call.array(0), call.attributes
    cuts = [slice(None)] * x.ndim
    ends = list(attributes["ends"])
    for position, like in enumerate(attributes.get("like_axes", [])):
        if like >= 0:
            ends[position] = call.array(1).shape[like]
    rows = zip(attributes["axes"], attributes["starts"], ends, attributes["steps"], strict=True)
    for axis, start, end, step in rows:
        size = x.shape[axis]
        start = start + size if start < 0 else start
        end = end + size if end < 0 else end
        if step > 0:
            cuts[axis] = slice(max(start, 0), max(end, 0), step)
        else:
            # Python reads an end of -1 as "last": None is the only way to say "down to index 0".
            cuts[axis] = slice(min(start, size - 1), None if end < 0 else end, step)
            if start < 0:
                cuts[axis] = slice(0, 0)
    return x[tuple(cuts)]
