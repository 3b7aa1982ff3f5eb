"""Pruning criteria: how much weights and channels matter.

A new one is one file and one line of `CRITERIA`.
"""

from __future__ import annotations

from pyruntime.prune.criteria import (
    bn_scale,
    geometric_median,
    l1,
    magnitude,
    obs,
    random,
    taylor,
    wanda,
)
from pyruntime.prune.criteria.criterion import Criterion, Measured, Subject

CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude.CRITERION,
    "l1": l1.CRITERION,
    "random": random.CRITERION,
    "geometric_median": geometric_median.CRITERION,
    "bn_scale": bn_scale.CRITERION,
    "taylor": taylor.CRITERION,
    "wanda": wanda.CRITERION,
    "obs": obs.CRITERION,
}

__all__ = ["CRITERIA", "Criterion", "Measured", "Subject"]
