"""Coordinate search over clipped ranges: what the observers with a cost per range share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyruntime.quantize.ranges import Range

RATIOS = np.linspace(1.0, 0.2, 81)
SWEEPS = 2


def search(full: Range, cost: Callable[[Range], float]) -> Range:
    """The cheapest range inside `full`: each end is tried at 20 % to 100 % of what was seen, the other held.

    Of equal costs the wider range wins.
    """
    best = full
    for _ in range(SWEEPS):
        before = best
        best = _cheapest([Range(best.low, full.high * ratio) for ratio in RATIOS], cost, best.high)
        best = _cheapest([Range(full.low * ratio, best.high) for ratio in RATIOS], cost, best.low)
        if best == before:
            break
    return best


def _cheapest(candidates: list[Range], cost: Callable[[Range], float], end: float) -> Range:
    if end == 0.0:
        return candidates[0]
    return candidates[int(np.argmin([cost(candidate) for candidate in candidates]))]
