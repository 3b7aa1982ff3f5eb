"""One layer in one form, by itself: its weights as `compress` would round them, and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.layers import Layer
from pyruntime.pack.codecs import planes, smallest
from pyruntime.pack.codecs.layout import total_bytes
from pyruntime.prune import granularity
from pyruntime.quantize.schemes import IntegerGrid
from pyruntime.recover import solve
from pyruntime.recover.common import get_bias
from pyruntime.recover.rounding import damping, refine_columns, round_columns
from pyruntime.recover.sums import Sums
from pyruntime.search.options import Option

Array = npt.NDArray[Any]

FULL_BITS = 8  # with fewer, rounding goes on by coordinate descent
SWEEPS = 1


@dataclass(frozen=True)
class Trial:
    """Attributes:
    weight: `[out, taps, in]`, float32, dequantized.
    bias: `[out]`.
    bytes: of the weight and its scales in the file, entropy coded.
    """

    weight: Array
    bias: Array
    bytes: int


class Subject:
    """A layer and what so many samples tell of it: `sums` of its inputs, for each group."""

    def __init__(self, layer: Layer, sums: Sequence[Sums], samples: int) -> None:
        self.layer = layer
        self._shape = layer.array().shape
        self._start = layer.array().reshape(layer.groups, -1, layer.array()[0].size).astype(np.float64)
        centred = layer.node.op_type != "MatMul"  # a bias takes up the means
        self._problems = []
        for part, weight in zip(sums, self._start, strict=True):
            covariance = part.moments(centred)[0]
            damped = damping(weight.shape[1], samples)
            self._problems.append(solve.Problem.of(covariance, weight @ covariance, weight, damped))
        self._means = np.stack([part.means()[0] for part in sums])
        squares = np.stack([np.diagonal(part.moments(False)[0]) for part in sums])
        self._importance = np.repeat(squares, self._start.shape[1], axis=0)
        self._pruned: dict[str, Array] = {}

    def trial(self, option: Option) -> Trial:
        layer, target = self.layer, self._target(option)
        scheme = option.quantize_spec.scheme
        rounded, size = target, 0
        if scheme is not None:
            grid = scheme.fit(target.reshape(self._shape).astype(np.float32), self._importance)
            hessian = np.stack([problem.hessian for problem in self._problems])
            rounded = round_columns(hessian, target, grid)
            if scheme.bits < FULL_BITS:
                rounded = refine_columns(hessian, target, rounded, grid, SWEEPS)
            flat = rounded.reshape(self._shape[0], -1)
            if isinstance(grid, IntegerGrid):
                stored = layer.stored(grid.codes(flat).reshape(self._shape))
                size = planes.store_floats(grid.scales).nbytes
            else:
                stored = layer.stored(grid.round(flat).reshape(self._shape))
            storage = dict(grid.storage)
        else:
            stored, storage = layer.stored(rounded.reshape(self._shape).astype(np.float32)), {}
        size += total_bytes(smallest(stored.T if layer.transposed else stored, storage)[1][0])
        shift = np.einsum("gok,gk->go", self._start - rounded, self._means).reshape(-1)
        weight = rounded.reshape(self._shape).astype(np.float32)
        return Trial(weight, (get_bias(layer) + shift).astype(np.float32), size)

    def _target(self, option: Option) -> Array:
        """The weights `[groups, rows, k]` before they are rounded: pruned, the rest adapted."""
        if not option.prune:
            return self._start
        if option.prune not in self._pruned:
            spec = option.prune_spec
            pattern = granularity.find(spec.granularity) if spec is not None else None
            assert spec is not None and pattern is not None
            self._pruned[option.prune] = np.stack(
                [_pruned(problem, pattern, spec.amount, self._shape[1:]) for problem in self._problems]
            )
        return self._pruned[option.prune]


def _pruned(
    problem: solve.Problem, pattern: granularity.Granularity, amount: float, shape: tuple[int, ...]
) -> Array:
    """Weights of a group `[rows, k]` with that share of their entries at zero, the others adapted.

    Args: shape: (taps, in).
    """
    rows = len(problem.weight0)
    groups = pattern.group(np.ones((rows, *shape))) if not pattern.fixed else np.ones((rows, *shape))
    keep = np.zeros(groups.shape, bool)
    keep.reshape(-1)[: groups.size - round(amount * groups.size)] = True  # as many as these
    mask = keep if pattern.fixed else pattern.spread(keep, shape[1])
    support, start = solve.select(problem, pattern, mask)
    weights = solve.least_squares(problem, support.reshape(rows, -1), start)
    return np.where(support.reshape(rows, -1), weights, 0.0)
