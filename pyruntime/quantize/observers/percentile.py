"""The values between which 99.99 % lie, so that a few outliers do not stretch the scale."""

from __future__ import annotations

import numpy as np

from pyruntime.quantize.observers.base import BINS, Histogram
from pyruntime.quantize.ranges import Range

TAIL = 0.5e-4  # what is left out at each end, of all values


class Percentile(Histogram):
    """An end moves in, bin by bin, while at most `TAIL` of all values lie beyond it."""

    def _choose(self) -> Range:
        allowed = TAIL * self.total
        below = int(np.searchsorted(np.cumsum(self.counts), allowed, side="right"))
        above = int(np.searchsorted(np.cumsum(self.counts[::-1]), allowed, side="right"))
        low = self.start + self.width * below
        high = self.start + self.width * (BINS - above)
        return Range(max(self.low, low), min(self.high, high))
