"""`codebook=K`: each weight is one of K values shared by the layer (weight sharing, Han et al. 2016).

The K centroids are points of the int8 grid of the layer, so the int8 kernels run the layer exactly. With
channel scales (the default) the weights are normalised by them before they share centroids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.schemes.base import (
    ALL,
    S8_MAX,
    Adjust,
    Array,
    Columns,
    IntegerGrid,
    adjusted,
    as_importance,
    as_matrix,
    full_scales,
)
from pyruntime.quantize.schemes.words import PER, Options, whole

ITERATIONS = 60
SEED = 0


@dataclass(frozen=True)
class TableGrid(IntegerGrid):
    """The entries of an ascending `table`, int64."""

    table: npt.NDArray[np.int64]

    def codes(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.int8]:
        middles = (self.table[1:] + self.table[:-1]) / 2
        return self.table[np.searchsorted(middles, self.steps(values))].astype(np.int8)


@dataclass(frozen=True)
class Codebook:
    """`size` centroids, chosen by `init` (a key of `INITS`); `per`: what shares a scale."""

    size: int
    init: str = "optimal"
    per: str = "channel"

    integer = True
    movable_scales = True

    @property
    def bits(self) -> float:
        return float(np.ceil(np.log2(self.size)))

    @property
    def label(self) -> str:
        return f"codebook={self.size} per_{self.per}"

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> TableGrid:
        matrix = as_matrix(weight)
        scales = adjusted(full_scales(matrix, self.per), adjust)
        wide = scales.astype(np.float64)[:, None]
        samples = (matrix / wide).reshape(-1)
        mass = np.broadcast_to(np.square(wide) * as_importance(importance, matrix), matrix.shape).reshape(-1)
        zero = samples == 0
        used = ~zero & (mass > 0)
        table = np.zeros(1, np.int64)
        if used.any():
            table = INITS[self.init](samples[used], mass[used], self.size, bool(zero.any()))
        return TableGrid(scales, table)


def optimal(samples: Array, mass: Array, size: int, zero: bool) -> npt.NDArray[np.int64]:
    """The at most `size` points of [-127, 127] with the least weighted squared error: exact, by dynamic
    programming over the points from left to right (Wu 1991). `zero`: 0 must be among them.
    """
    order = np.argsort(samples, kind="stable")
    x, w = samples[order], mass[order] / mass.sum()
    sums = [np.concatenate([[0.0], np.cumsum(w * x**power)]) for power in range(3)]
    points = np.arange(-S8_MAX, S8_MAX + 1)

    def error(first: Array, last: Array, point: Array) -> Array:
        """Of the samples `first .. last` (indices into x) rounded to a point."""
        s0, s1, s2 = (s[last] - s[first] for s in sums)
        found: Array = s2 - 2 * point * s1 + np.square(point) * s0
        return found

    at = np.searchsorted(x, points)
    middle = np.searchsorted(x, (points[:, None] + points[None, :]) / 2)
    between = error(at[:, None], middle, points[:, None]) + error(middle, at[None, :], points[None, :])
    between[np.tril_indices(len(points))] = np.inf
    if zero:
        between[points[:, None] * points[None, :] < 0] = np.inf
    count = np.full(len(points), len(x))
    before, after = error(np.zeros_like(at), at, points), error(at, count, points)
    if zero:
        before[points > 0] = after[points < 0] = np.inf
    cost, came_from, ends = before, [], [before + after]
    for _ in range(size - 1):
        through = cost[:, None] + between
        came_from.append(through.argmin(axis=0))
        cost = through.min(axis=0)
        ends.append(cost + after)
    used = int(np.argmin([end.min() for end in ends]))
    chosen = [int(np.argmin(ends[used]))]
    for step in reversed(came_from[:used]):
        chosen.append(int(step[chosen[-1]]))
    table: npt.NDArray[np.int64] = points[np.array(chosen[::-1])]
    return table


def _linear(samples: Array, mass: Array, size: int) -> Array:
    return np.linspace(samples.min(), samples.max(), size)


def _density(samples: Array, mass: Array, size: int) -> Array:
    return np.quantile(samples, (np.arange(size) + 0.5) / size)


def _random(samples: Array, mass: Array, size: int) -> Array:
    distinct = np.unique(samples)
    generator = np.random.default_rng(SEED)
    return np.sort(generator.choice(distinct, min(size, distinct.size), replace=False))


def _lloyd(
    init: Callable[[Array, Array, int], Array],
) -> Callable[[Array, Array, int, bool], npt.NDArray[np.int64]]:
    """k-means from the starting centroids that `init` gives, then rounded to the integers."""

    def fit(samples: Array, mass: Array, size: int, zero: bool) -> npt.NDArray[np.int64]:
        centroids = init(samples, mass, size)
        for _ in range(ITERATIONS):
            nearest = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, samples)
            total = np.bincount(nearest, mass, centroids.size)
            moved = np.bincount(nearest, mass * samples, centroids.size)
            updated = np.divide(moved, total, out=centroids.copy(), where=total > 0)
            if np.array_equal(updated, centroids):
                break
            centroids = np.sort(updated)
        if zero:
            centroids[np.argmin(np.abs(centroids))] = 0.0
        return np.unique(np.clip(np.rint(centroids), -S8_MAX, S8_MAX).astype(np.int64))

    return fit


INITS: dict[str, Callable[[Array, Array, int, bool], npt.NDArray[np.int64]]] = {
    "optimal": optimal,
    "linear": _lloyd(_linear),
    "density": _lloyd(_density),
    "random": _lloyd(_random),
}


def parse(name: str, value: str | None, options: Options) -> Codebook:
    """`codebook=K` with `init=optimal|linear|density|random`, `per=channel|tensor`."""
    size = whole(value or "", 2, 255, f"{options.what}: the size in 'codebook=K'")
    init = options.choice("init", INITS, "optimal")
    per = options.choice("per", PER, "channel")
    options.finish(["init", "per"])
    return Codebook(size, init, per)
