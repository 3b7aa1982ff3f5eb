"""The oracle: programs executed in NumPy, readable rather than fast.

Integer operators are exact, bit for bit what docs/format.md states. Float operators sum in float64 and round
once, so they agree with the runtime within float32 rounding, not bit for bit.
"""

from pyruntime.reference.execute import run

__all__ = ["run"]
