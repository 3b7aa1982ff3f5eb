"""Operator `dense`, integer and float."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call
from pyruntime.reference.ops.conv import finish_float, finish_integer


def dense(call: Call) -> Array:
    """x `[..., K]`, w `[O, K]` to `[..., O]`, with the epilogues of `conv`."""
    x, weight = call.array(0), call.array(1).astype(np.float64)
    if x.dtype == np.uint8:
        total = (x.astype(np.float64) - call.zero_point(0)) @ weight.T
        return finish_integer(total, call, channel_axis=-1)
    return finish_float(x.astype(np.float64) @ weight.T, call, channel_axis=-1)
