"""Relu and Clip at the end of a pattern, as bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from pyruntime.graph import get_float
from pyruntime.lower.context import Context
from pyruntime.lower.quantization import Params


@dataclass(frozen=True)
class Bounds:
    """`min(max(x, lo), hi)`; infinite where open."""

    lo: float = -math.inf
    hi: float = math.inf

    def then(self, outer: Bounds) -> Bounds:
        """Bounds of clamping by self and then by `outer`."""
        return Bounds(min(max(self.lo, outer.lo), outer.hi), min(max(self.hi, outer.lo), outer.hi))

    def real(self) -> dict[str, Any]:
        """`lo`, `hi` of a float result; absent where open."""
        bounds = {"lo": self.lo, "hi": self.hi}
        return {key: bound for key, bound in bounds.items() if math.isfinite(bound)}

    def integer(self, params: Params, prefix: str = "") -> dict[str, Any]:
        """`lo`, `hi` of a u8 result: what the bounds quantize to, so that it equals clamp-then-quantize."""
        return {prefix + key: params.bound(bound) for key, bound in self.real().items()}


def bounds_of(node: ir.Node) -> Bounds | None:
    """Bounds of a Relu or Clip, None for other nodes."""
    if node.op_type == "Relu":
        return Bounds(lo=0.0)
    if node.op_type == "Clip":
        lo, hi = get_float(node, "min", -math.inf), get_float(node, "max", math.inf)
        return Bounds(min(lo, hi), hi)  # ONNX: max wins where min is above it
    return None


def peel(context: Context, value: ir.Value) -> tuple[ir.Value, Bounds]:
    """Walks up from `value` through Relu and Clip that nothing else reads.

    Returns the value below them and the bounds they amount to. `value` itself may be read by others: it is
    what the pattern produces.
    """
    bounds = Bounds()
    while True:
        node = value.producer()
        found = None if node is None else bounds_of(node)
        if node is None or found is None or not context.feeds_only(node.inputs[0]):
            return value, bounds
        assert node.inputs[0] is not None
        value, bounds = node.inputs[0], found.then(bounds)
