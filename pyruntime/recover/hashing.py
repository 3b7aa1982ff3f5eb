"""Fit the vector that hashed weights are drawn from to what the layer computes.

The weights of a layer are `w = A v`: entry (o, k) is `scale[o] * sign(o, k) * v[index(o, k)]`. With H the
damped covariance of the layer's inputs and w0 the wanted weights, the vector minimises

    sum over o of (w_o - w0_o) H (w_o - w0_o)^T

by conjugate gradients on `A^T (A v) H`. Means of the weights that share an entry (`schemes.hashed`) take no
account of inputs that stand in for one another: at a half of the values they lose a third to a half of the
outputs' energy, this vector about a twentieth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.numerics import hashed_positions
from pyruntime.quantize.schemes.base import S8_MAX
from pyruntime.quantize.schemes.hashed import FixedGrid

Array = npt.NDArray[Any]

STEPS = 60  # of conjugate gradients


def fit_vector(hessian: Array, target: Array, grid: FixedGrid) -> FixedGrid:
    """The grid with the vector of least error, in the steps of its scales.

    Args:
        hessian: `[groups, k, k]`, positive definite.
        target: wanted weights `[groups, rows, k]`; where one is 0, it stays 0.
    """
    size, k = grid.size, target.shape[2]
    kept = (target != 0).reshape(-1, k)
    index, sign = (part.reshape(kept.shape) for part in hashed_positions(kept.size, size))
    factor = np.where(kept, sign * grid.scales.astype(np.float64)[:, None], 0.0)

    def shared(values: Array) -> Array:
        """A^T of `[out, k]`."""
        return np.bincount(index.reshape(-1), values.reshape(-1), size)

    def image(weight: Array) -> Array:
        """A^T of the weights `[out, k]` times H."""
        return shared(factor * (weight.reshape(target.shape) @ hessian).reshape(-1, k))

    diagonal = np.repeat(np.einsum("gkk->gk", hessian), target.shape[1], axis=0)
    scaling = shared(np.square(factor) * diagonal)
    scaling = np.where(scaling > 0, scaling, 1.0)
    vector, residual = np.zeros(size), image(target)
    direction = residual / scaling
    energy = residual @ direction
    for _ in range(STEPS):
        step = image(factor * direction[index])
        curvature = direction @ step
        if not curvature > 0:
            break
        vector = vector + energy / curvature * direction
        residual = residual - energy / curvature * step
        before, energy = energy, residual @ (residual / scaling)
        direction = residual / scaling + energy / before * direction
    codes = np.clip(np.rint(vector), -S8_MAX, S8_MAX)
    return replace(grid, table=np.where(kept, sign * codes[index], 0).astype(np.int8))
