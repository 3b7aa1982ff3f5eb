"""Operator `add`."""

import numpy as np

from pyruntime.numerics import fma, round_clamp
from pyruntime.program import Array
from pyruntime.reference.call import Call


def add(call: Call) -> Array:
    """Integer: `clamp(rne(fma(a, a_multiplier, fma(b, b_multiplier, offset))))`. Float: a + b, clamped."""
    a, b, attributes = call.array(0), call.array(1), call.attributes
    if call.out.dtype == "f32":
        plain: Array = np.clip(a + b, attributes.get("lo", -np.inf), attributes.get("hi", np.inf))
        return plain
    inner = fma(b, attributes["b_multiplier"], attributes["offset"])
    total = fma(a, attributes["a_multiplier"], inner)
    return round_clamp(total, attributes.get("lo", 0), attributes.get("hi", 255), np.uint8)
