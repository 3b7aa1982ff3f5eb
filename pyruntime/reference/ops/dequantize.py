"""Operator `dequantize`."""

from pyruntime import numerics
from pyruntime.program import Array
from pyruntime.reference.call import Call


def dequantize(call: Call) -> Array:
    """u8/s8/s32 to f32 with the input's scale and zero point."""
    source = call.sources[0]
    assert source is not None and source.scale is not None
    return numerics.dequantize(call.array(0), source.scale, call.zero_point(0))
