"""Geometric median: filters close to all others are replaceable (FPGM, He et al. 2019).

The score of a filter is the sum of its distances to the other filters of its group; of an input channel,
that of its slice to the slices of the other channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject


def filters(subject: Subject) -> Scores:
    rows = subject.weight.reshape(subject.groups, -1, int(np.prod(subject.weight.shape[1:])))
    return np.concatenate([distances(group) for group in rows])


def channels(subject: Subject) -> Scores:
    return distances(subject.weight.transpose(2, 0, 1).reshape(subject.weight.shape[2], -1))


def distances(points: npt.NDArray[Any]) -> Scores:
    """Sum of the Euclidean distances of each row to all others."""
    wide = points.astype(np.float64)
    squares = np.square(wide).sum(axis=1)
    between = squares[:, None] + squares[None, :] - 2 * (wide @ wide.T)
    np.fill_diagonal(between, 0.0)
    sums: Scores = np.sqrt(np.maximum(between, 0.0)).sum(axis=1)
    return sums


CRITERION = Criterion(filters=filters, channels=channels)
