"""Operator `layer_norm`."""

import math

import numpy as np

from pyruntime import numerics
from pyruntime.program import DTYPES, Array
from pyruntime.reference.call import Call


def layer_norm(call: Call) -> Array:
    """Normalizes over the axes from `axis` on, float32 throughout; u8 output: the result quantized."""
    x, scale, bias = call.array(0), numerics.flush(call.array(1)), call.optional(2)
    axis = call.attributes["axis"] % x.ndim
    if x.size == 0:
        return x.astype(DTYPES[call.out.dtype])
    rows = numerics.flush(x).reshape(-1, math.prod(x.shape[axis:]))
    count, epsilon = np.float32(rows.shape[1]), np.float32(call.attributes["epsilon"])
    mean = numerics.lane_sum(rows) / count
    deviation = numerics.flush(rows - mean[:, None])
    squares = numerics.lane_sum(deviation, squares=True) / count
    inverse = np.float32(1.0) / np.sqrt(squares + epsilon)
    scaled = numerics.flush(deviation * inverse[:, None])
    shift = np.float32(0.0) if bias is None else bias.reshape(-1)
    result = numerics.fma(scaled, scale.reshape(-1), shift).reshape(x.shape)
    if call.out.dtype == "f32":
        return result
    assert call.out.scale is not None and call.out.zero_point is not None
    return numerics.quantize(result, call.out.scale, call.out.zero_point, DTYPES[call.out.dtype])
