"""Operator `matmul`."""

import numpy as np

from pyruntime import numerics
from pyruntime.program import Array
from pyruntime.reference.call import Call


def matmul(call: Call) -> Array:
    """Batched product of two computed tensors, float or u8 with exact sums."""
    a, b = call.array(0), call.array(1)
    if a.dtype != np.uint8:
        product: Array = np.matmul(a.astype(np.float64), b.astype(np.float64))
        return product
    total = np.matmul(a.astype(np.int64) - call.zero_point(0), b.astype(np.int64) - call.zero_point(1))
    multiplier, offset = (np.float32(call.attributes[key]) for key in ("multiplier", "offset"))
    result = numerics.fma(total.astype(np.float32), multiplier, offset)
    if call.out.dtype == "f32":
        return np.clip(result, call.attributes.get("lo", -np.inf), call.attributes.get("hi", np.inf))
    return numerics.round_clamp(
        result, call.attributes.get("lo", 0), call.attributes.get("hi", 255), np.uint8
    )
