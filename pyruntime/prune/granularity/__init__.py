"""Pruning granularities below a channel: which weights fall together.

A new one is one file and one line of `GRANULARITIES`.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity.blocks import Blocks
from pyruntime.prune.granularity.nm import Pattern
from pyruntime.prune.granularity.weight import Weight

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MAX_PATTERN = 64


class Granularity(Protocol):
    """Groups of the entries of a weight `[out, taps, in]`.

    Attributes:
        name: the word in a SPEC.
        size: entries of a full group.
        fixed: the pattern itself says how much falls (N:M); otherwise a fraction is asked for.
    """

    @property
    def name(self) -> str: ...
    @property
    def fixed(self) -> bool: ...
    @property
    def size(self) -> int: ...

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        """Why a layer with that many input channels per group is left alone; empty if it is not."""

    def group(self, scores: Scores) -> Scores:
        """Entry scores `[out, taps, in]` -> means of the groups `[out, taps, groups]`."""

    def spread(self, keep: Mask, channels: int) -> Mask:
        """Decisions `[out, taps, groups]` -> mask of entries `[out, taps, channels]`."""

    def pattern(self, scores: Scores) -> Mask:
        """Mask of the entries a fixed pattern keeps. Only where `fixed`."""

    def droppable(self, costs: Scores) -> Scores:
        """Costs of dropping entries, infinite where a fixed pattern forbids it. Only where `fixed`."""


GRANULARITIES: dict[str, Granularity] = {
    "weight": Weight(),
    "block4": Blocks(4),
    "block8": Blocks(8),
    "block16": Blocks(16),
}
"""Those that take a fraction; N:M are made by `find`."""

WHOLE = ("filter", "channel")
"""Whole channels: removed and not set to zero, by `prune.channels`."""


def find(name: str) -> Granularity | None:
    """The granularity of that name: a key of `GRANULARITIES`, or N:M with 0 < N < M <= 64; else None."""
    match = re.fullmatch(r"(\d{1,2}):(\d{1,2})", name)
    if match is None:
        return GRANULARITIES.get(name)
    keep, of = int(match[1]), int(match[2])
    return Pattern(keep, of) if 0 < keep < of <= MAX_PATTERN and name == f"{keep}:{of}" else None
