"""Operator `expand`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def expand(call: Call) -> Array:
    """Broadcasts to `shape`, whose entry i is the dimension `like_axes[i]` of the second input if that is
    not -1.
    """
    x, shape = call.array(0), list(call.attributes["shape"])
    for position, axis in enumerate(call.attributes.get("like_axes", [])):
        if axis >= 0:
            shape[position] = call.array(1).shape[axis]
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))
