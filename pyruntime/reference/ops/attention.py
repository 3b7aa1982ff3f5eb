"""Operator `attention`."""

import numpy as np

from pyruntime import numerics
from pyruntime.program import Array
from pyruntime.reference.call import Call


def attention(call: Call) -> Array:
    """softmax(q k^T * multiplier + mask) v, head by head; the exponentials are u8 with scale 1/255."""
    heads = call.attributes["heads"]
    q, k, v = (_heads(call.array(i).astype(np.int64) - call.zero_point(i), heads) for i in range(3))
    products = (q @ k.transpose(0, 1, 3, 2)).astype(np.float32)
    scores = numerics.flush(products * np.float32(call.attributes["multiplier"]))
    mask = call.optional(3)
    if mask is not None:
        scores = numerics.flush(scores + numerics.flush(mask))
    highest = np.fmax.reduce(scores, axis=-1, keepdims=True, initial=-np.inf)
    exponentials = numerics.exp(numerics.flush(scores - highest)) * np.float32(255)
    codes = numerics.round_clamp(exponentials, 0, 255, np.int64)
    sums = np.maximum(codes.sum(axis=-1, keepdims=True), 1).astype(np.float32)
    factor = np.float32(call.attributes["output_multiplier"]) / sums
    zero_point = 0 if call.out.zero_point is None else call.out.zero_point
    result = numerics.fma((codes @ v).astype(np.float32), factor, np.float32(zero_point))
    joined = result.transpose(0, 2, 1, 3).reshape(*call.array(0).shape[:2], call.array(2).shape[2])
    return joined if call.out.dtype == "f32" else numerics.round_clamp(joined, 0, 255, np.uint8)


def _heads(x: Array, heads: int) -> Array:
    """[N, S, heads * d] -> [N, heads, S, d]."""
    split: Array = x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)
    return split
