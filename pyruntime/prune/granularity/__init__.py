"""Pruning granularities: which weights fall together.

A new one is one file and one line of `GRANULARITIES`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity.block4 import Block4
from pyruntime.prune.granularity.nm import TwoOfFour
from pyruntime.prune.granularity.weight import Weight

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Granularity(Protocol):
    """Groups of the entries of a weight `[out, taps, in]`.

    Attributes:
        name: the word in a SPEC.
        size: entries of a full group.
        fixed: the pattern itself says how much falls (N:M); otherwise a fraction is asked for.
    """

    name: str
    fixed: bool
    size: int

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        """Why a layer with that many input channels per group is left alone; empty if it is not."""

    def group(self, scores: Scores) -> Scores:
        """Entry scores `[out, taps, in]` -> means of the groups `[out, taps, groups]`."""

    def spread(self, keep: Mask, channels: int) -> Mask:
        """Decisions `[out, taps, groups]` -> mask of entries `[out, taps, channels]`."""

    def pattern(self, scores: Scores) -> Mask:
        """Mask of the entries a fixed pattern keeps. Only where `fixed`."""


GRANULARITIES: dict[str, Granularity] = {
    "weight": Weight(),
    "block4": Block4(),
    "2:4": TwoOfFour(),
}

LATER = ("filter", "channel")
"""Named in the interface, not built."""
