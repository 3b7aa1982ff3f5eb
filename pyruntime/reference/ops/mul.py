"""Operator `mul`."""

import numpy as np

from pyruntime.numerics import fma, round_clamp
from pyruntime.program import Array
from pyruntime.reference.call import Call


def mul(call: Call) -> Array:
    """Integer: `clamp(rne(fma((a - a_zp) * (b - b_zp), multiplier, offset)))`. Float: a * b, clamped."""
    a, b, attributes = call.array(0), call.array(1), call.attributes
    if call.out.dtype == "f32":
        product: Array = np.clip(a * b, attributes.get("lo", -np.inf), attributes.get("hi", np.inf))
        return product
    left = a.astype(np.int32) - attributes["a_zero_point"]
    right = b.astype(np.int32) - attributes["b_zero_point"]
    total = fma(left * right, attributes["multiplier"], attributes["offset"])
    return round_clamp(total, attributes.get("lo", 0), attributes.get("hi", 255), np.uint8)
