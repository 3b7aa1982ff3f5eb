"""The mean of the smallest and the largest values of groups of samples: single outliers hardly move it.

A running mean with equal weights over groups of fixed size, so that the size of a batch does not matter and
no group is forgotten (as in an exponential average). The extremes of single samples would clip too much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.observers.base import Extremes
from pyruntime.quantize.ranges import Range

GROUP = 64  # samples


class Average(Extremes):
    """First axis = samples. A sample without a finite value does not count, nor does an unfinished group;
    with no finished one the range is that of all.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._groups = 0
        self._low_sum = 0.0
        self._high_sum = 0.0
        self._begin()

    def _begin(self) -> None:
        self._samples = 0  # of the group in the making, and its extremes
        self._low = np.inf
        self._high = -np.inf

    def update(self, values: npt.NDArray[Any]) -> None:
        super().update(values)
        if values.size == 0:
            return
        rows = values.reshape(len(values) if values.ndim else 1, -1)
        finite = np.isfinite(rows)
        counted = finite.any(axis=1)
        low = np.where(finite, rows, np.inf).min(axis=1)[counted]
        high = np.where(finite, rows, -np.inf).max(axis=1)[counted]
        start = 0
        while start < len(low):
            part = slice(start, start + GROUP - self._samples)
            self._low = min(self._low, float(low[part].min()))
            self._high = max(self._high, float(high[part].max()))
            self._samples += len(low[part])
            start = part.stop
            if self._samples == GROUP:
                self._groups += 1
                self._low_sum += self._low
                self._high_sum += self._high
                self._begin()

    def _choose(self) -> Range:
        if self._groups == 0:
            return Range(self.low, self.high)
        return Range(self._low_sum / self._groups, self._high_sum / self._groups)
