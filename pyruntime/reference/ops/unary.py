"""Operator `unary`."""

from pyruntime import numerics
from pyruntime.program import Array
from pyruntime.reference.call import Call


def unary(call: Call) -> Array:
    """A function of one f32 argument, elementwise."""
    return numerics.unary(call.attributes["function"], call.array(0), call.attributes)
