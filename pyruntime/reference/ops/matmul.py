"""Operator `matmul`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def matmul(call: Call) -> Array:
    """Batched f32 product, summed in float64."""
    product: Array = np.matmul(call.array(0).astype(np.float64), call.array(1).astype(np.float64))
    return product
