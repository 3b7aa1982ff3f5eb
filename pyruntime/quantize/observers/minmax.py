"""The smallest and the largest value seen."""

from __future__ import annotations

from pyruntime.quantize.observers.base import Extremes


class MinMax(Extremes):
    pass
