"""Pruning criteria: how much each weight matters.

A criterion takes a weight `[out, taps, in]` (float32) and the name of its tensor and returns scores of the
same shape (float64, >= 0). Scores add up: the score of a block is the mean of its members'. A new criterion
is one file and one line of `CRITERIA`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.prune.criteria import magnitude, random

Criterion = Callable[[npt.NDArray[Any], str], npt.NDArray[np.float64]]

CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude.scores,
    "random": random.scores,
}

LATER = ("taylor", "bn_scale", "geometric_median", "obs", "wanda")
"""Named in the interface, not built."""
