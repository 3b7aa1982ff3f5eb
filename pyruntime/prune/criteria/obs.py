"""Optimal brain surgery: what the layer's output loses once the weights that stay have adapted.

With H the covariance of the layer's inputs (a bias takes over their means), dropping the entries B of a row
costs `w_B ((H^-1)_BB)^-1 w_B^T` (Hassibi & Stork 1993). Input channels are dropped in small rounds, the
cheapest first; the weights and H^-1 are updated after each, so a channel that another can stand in for is
cheap until the other is gone (Kurtic et al. 2023). Scores are relative to the variance of the layer's
output, so channels can be compared between layers. Single weights cannot: what they cost one by one says too
little of what half of a layer costs, and the last layers would lose nearly all of theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.prune.criteria.criterion import DAMPING, Criterion, Scores, Subject, squared

ROUND = 16  # of the channels still there, one in so many goes per round


def weights(subject: Subject) -> Scores:
    """`w^2 / (H^-1)_ii`, over the variance of the outputs."""
    out = len(subject.weight)
    diagonal = np.stack([np.diagonal(np.linalg.inv(part)) for part in _hessians(subject)])
    by_output = np.repeat(diagonal, out // subject.groups, axis=0).reshape(subject.weight.shape)
    scores: Scores = squared(subject.weight) / by_output / _signal(subject)
    return scores


def channels(subject: Subject) -> Scores:
    """Loss of dropping each channel, at the point where its turn comes."""
    out, taps, count = subject.weight.shape
    costs = np.zeros(count)
    rows = out // subject.groups
    flat = subject.weight.reshape(subject.groups, rows, taps * count).astype(np.float64)
    for weight, hessian in zip(flat, _hessians(subject), strict=True):
        costs += _eliminate(weight, np.linalg.inv(hessian), taps, count)
    return costs / _signal(subject)


def _eliminate(weight: Scores, inverse: Scores, taps: int, count: int) -> Scores:
    """Costs of the channels of `weight` `[rows, taps * count]` in greedy order, never falling."""
    columns = np.arange(taps * count).reshape(taps, count).T
    alive = np.arange(count)
    costs, highest = np.zeros(count), 0.0
    while alive.size:
        blocks = columns[alive]
        precision = np.linalg.inv(inverse[blocks[:, :, None], blocks[:, None, :]])
        entries = weight[:, blocks]
        losses = np.einsum("rci,cij,rcj->c", entries, precision, entries, optimize=True)
        cheapest = np.argsort(losses, kind="stable")[: max(1, alive.size // ROUND)]
        costs[alive[cheapest]] = np.maximum(losses[cheapest], highest)
        highest = float(costs[alive[cheapest]].max())
        gone = columns[alive[cheapest]].reshape(-1)
        alive = np.delete(alive, cheapest)
        update = np.linalg.solve(inverse[np.ix_(gone, gone)], inverse[gone])
        weight = weight - weight[:, gone] @ update
        inverse = inverse - inverse[:, gone] @ update
    return costs


def _hessians(subject: Subject) -> npt.NDArray[Any]:
    assert subject.measured is not None and subject.measured.moments is not None
    mean = subject.measured.mean
    assert mean is not None
    covariance = subject.measured.moments.astype(np.float64) - mean[:, :, None] * mean[:, None, :]
    average = np.einsum("gkk->gk", covariance).mean(axis=1)
    damping = np.where(average > 0, DAMPING * average, 1.0)
    damped: Scores = covariance + damping[:, None, None] * np.eye(covariance.shape[1])
    return damped


def _signal(subject: Subject) -> float:
    """Variance of all outputs together."""
    assert subject.measured is not None
    return max(subject.measured.signal * len(subject.weight), 1e-30)


CRITERION = Criterion(
    weights=weights, channels=channels, needs=("moments",), weights_need=("moments",), comparable=True
)
