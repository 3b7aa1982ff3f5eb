"""What an operator of the reference receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyruntime.program import Array, Value


@dataclass
class Call:
    """One node with its evaluated inputs.

    `arrays[i]` is None for an absent input; `sources[i]` describes it (None for a constant); `out`
    describes the output, of which only dtype, scale and zero_point bind.
    """

    arrays: list[Array | None]
    sources: list[Value | None]
    out: Value
    attributes: dict[str, Any]

    def array(self, position: int) -> Array:
        found = self.arrays[position]
        assert found is not None
        return found

    def optional(self, position: int) -> Array | None:
        return self.arrays[position] if position < len(self.arrays) else None

    def zero_point(self, position: int) -> int:
        source = self.sources[position]
        return 0 if source is None or source.zero_point is None else source.zero_point
