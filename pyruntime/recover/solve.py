"""Least squares on a support, and the choice of the support: pure functions on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity import Granularity

Float = npt.NDArray[Any]  # float64
Mask = npt.NDArray[np.bool_]

DAMPING = 0.01  # of the mean diagonal
ROUND_KEEP = 0.85  # of the groups still there, per round
FINAL_STEPS, ROUND_STEPS = 40, 8  # of conjugate gradients
# Measured time of one multiply-add of an exact solve, in those of conjugate gradients.
EXACT_PRICE = 4.0


@dataclass(frozen=True)
class Problem:
    """min over w of `w H w^T - 2 w t^T` for each row; `weight0` is the start.

    Attributes:
        hessian: `[k, k]`, damped.
        target: `[rows, k]`.
        weight0: `[rows, k]`, weights before pruning.
    """

    hessian: Float
    target: Float
    weight0: Float

    @classmethod
    def of(cls, covariance: Float, cross: Float, weight0: Float, damping: float = DAMPING) -> Problem:
        """From the covariances of inputs `[k, k]` and of wanted outputs with inputs `[rows, k]`.

        Args: damping: share of the mean power of the inputs; the more, the closer the solution to `weight0`.
        """
        damping *= max(float(np.diagonal(covariance).mean()), 1e-30)
        hessian = covariance + damping * np.eye(len(covariance))
        return cls(hessian, cross + damping * weight0, weight0)


def least_squares(problem: Problem, support: Mask, start: Float | None = None) -> Float:
    """Best weights of each row that are zero outside its support, `[rows, k]`.

    Exact where that is quicker than `improve` from `start` (default: the weights before pruning).
    """
    if (support == support[:1]).all():
        return _shared_support(problem, np.flatnonzero(support.any(axis=0)))
    kept = support.sum(axis=1, dtype=np.float64)
    if EXACT_PRICE * float((kept**3).sum()) / 3 > FINAL_STEPS * support.size * support.shape[1]:
        return improve(problem, support, problem.weight0 if start is None else start, FINAL_STEPS)
    solution = np.zeros_like(problem.weight0)
    for row, keep in enumerate(support):
        index = np.flatnonzero(keep)
        if index.size:
            solution[row, index] = np.linalg.solve(
                problem.hessian[np.ix_(index, index)], problem.target[row, index]
            )
    return solution


def _shared_support(problem: Problem, index: npt.NDArray[np.intp]) -> Float:
    solution = np.zeros_like(problem.weight0)
    hessian = problem.hessian[np.ix_(index, index)]
    solution[:, index] = np.linalg.solve(hessian, problem.target[:, index].T).T
    return solution


def improve(problem: Problem, support: Mask, start: Float, steps: int) -> Float:
    """Weights closer to `least_squares`, all rows at once, by conjugate gradients in float32."""
    hessian = problem.hessian.astype(np.float32)
    diagonal = np.diagonal(hessian)
    solution = np.where(support, start, 0.0).astype(np.float32)
    residual = np.where(support, problem.target - solution @ hessian, 0.0).astype(np.float32)
    scaled = residual / diagonal
    direction = scaled
    energy = (residual * scaled).sum(axis=1, keepdims=True)
    for _ in range(steps):
        image = np.where(support, direction @ hessian, np.float32(0))
        curvature = (direction * image).sum(axis=1, keepdims=True)
        step = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
        solution = solution + step * direction
        residual = residual - step * image
        scaled = residual / diagonal
        before, energy = energy, (residual * scaled).sum(axis=1, keepdims=True)
        ratio = np.divide(energy, before, out=np.zeros_like(energy), where=before > 0)
        direction = scaled + ratio * direction
    return solution.astype(np.float64)


def select(problem: Problem, granularity: Granularity, mask: Mask) -> tuple[Mask, Float]:
    """Support `[rows, taps, in]` chosen by what dropping a group costs, with as many groups as `mask` keeps,
    and weights `[rows, k]` to start `least_squares` from. Weights that were zero before pruning stay so.

    In rounds: each drops the cheapest groups and lets the survivors adapt before costs are taken anew. H^-1
    stays that of all inputs: an inverse for the survivors of each row costs far more and chooses no better.
    """
    shape = mask.shape
    blocks = _blocks(shape, granularity.size)
    hessian_inverse = np.linalg.inv(problem.hessian)
    weight = problem.target @ hessian_inverse
    inverse = _block_diagonal(hessian_inverse, blocks)
    present = (problem.weight0 != 0).reshape(shape)
    alive = (granularity.group(present.astype(np.float64)) > 0).reshape(shape[0], -1)
    if granularity.fixed:
        mask = granularity.pattern(present.astype(np.float64)) & present
    wanted = int(np.count_nonzero(granularity.group(mask.astype(np.float64))))
    support = present
    for count in _schedule(int(alive.sum()), wanted):
        costs = np.where(alive, _costs(weight, inverse, blocks), np.inf)
        if granularity.fixed:
            costs = granularity.droppable(costs.reshape(shape)).reshape(costs.shape)
        alive.reshape(-1)[np.argsort(costs, axis=None, kind="stable")[: alive.sum() - count]] = False
        support = granularity.spread(alive.reshape(shape[0], shape[1], -1), shape[2]) & present
        if count > wanted:
            weight = improve(problem, support.reshape(shape[0], -1), weight, ROUND_STEPS)
    return support, weight


def _schedule(total: int, wanted: int) -> list[int]:
    """Groups left after each round, at least one round."""
    if wanted in (0, total):
        return [wanted]
    rounds = int(np.ceil(np.log(wanted / total) / np.log(ROUND_KEEP)))
    return [round(total * (wanted / total) ** ((i + 1) / rounds)) for i in range(rounds)]


def _blocks(shape: tuple[int, ...], size: int) -> npt.NDArray[np.intp]:
    """Columns of each group, `[groups, size]`; -1 where the last group of a tap has no entry."""
    _, taps, channels = shape
    per_tap = -(-channels // size)
    channel = np.arange(per_tap * size)
    columns = np.arange(taps)[:, None] * channels + np.where(channel < channels, channel, 0)
    return np.where(channel < channels, columns, -1).reshape(taps * per_tap, size)


def _block_diagonal(matrix: Float, blocks: npt.NDArray[np.intp]) -> Float:
    """The diagonal blocks of a matrix, `[groups, size, size]`; identity where a group has no entry."""
    found = matrix[blocks[:, :, None], blocks[:, None, :]]
    present = blocks >= 0
    both = present[:, :, None] & present[:, None, :]
    return np.where(both, found, np.eye(blocks.shape[1]))


def _costs(weight: Float, inverse: Float, blocks: npt.NDArray[np.intp]) -> Float:
    """`w_B (H^-1_BB)^-1 w_B^T` of each row and group, `[rows, groups]`."""
    entries = np.where(blocks >= 0, weight[:, blocks], 0.0)
    precision = np.linalg.inv(inverse)
    costs: Float = np.einsum("rgi,gij,rgj->rg", entries, precision, entries, optimize=True)
    return costs
