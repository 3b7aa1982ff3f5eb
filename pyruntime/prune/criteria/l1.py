"""L1: the absolute weight, so that a block or a filter is judged by its L1 norm (Li et al. 2017)."""

from __future__ import annotations

import numpy as np

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject


def scores(subject: Subject) -> Scores:
    return np.abs(subject.weight.astype(np.float64))


CRITERION = Criterion(weights=scores)
