"""AdaRound: learn for every weight whether it is rounded up or down (Nagel et al. 2020, "Up or down?").

Each weight is `low + (high - low) h(V)` with its two neighbours on the grid and the rectified sigmoid
`h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)`. Adam minimises the error of the layer's outputs plus
`sum(1 - |2 h - 1|^beta)`, which drives h to 0 or 1 as beta falls. The paper samples batches; the error of a
layer is a quadratic form of its weights, so with the second moment H of the inputs every step here sees all
data: `(W~ - W) H (W~ - W)^T`, a few hundred steps in place of ten thousand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.schemes import IntegerGrid

Array = npt.NDArray[Any]

STEPS = 600
WARM_UP = 0.2  # of the steps, without the regularizer
RATE = 0.02  # of Adam
BETAS = (20.0, 2.0)
WEIGHT = 15.0  # of the regularizer, beside an error of 1 for every weight that is half a step off
STRETCH = 1.2
PROBES = 0.75 * 2.0 ** np.arange(8)  # in steps of a channel: the next point of a grid is one of these away


def soft_round(hessian: Array, weight: Array, grid: IntegerGrid) -> Array:
    """The weights on the grid, `[groups, rows, k]`; zeros stay zero.

    Args:
        hessian: `[groups, k, k]`, positive definite.
        weight: `[groups, rows, k]`; the output channels of the grid are groups times rows.
    """
    low, high = neighbours(weight, grid)
    gap = (high - low).astype(np.float32)
    matrix = hessian.astype(np.float32)
    price = np.square(gap) * np.einsum("gkk->gk", matrix)[:, None, :] / 4
    matrix = matrix / max(float(price[gap > 0].mean()) if (gap > 0).any() else 1.0, 1e-30)
    start = np.divide(weight - low, high - low, out=np.zeros_like(weight), where=gap > 0)
    offset = (low - weight).astype(np.float32)
    v = _inverse_sigmoid(start.astype(np.float32))
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, STEPS + 1):
        s = 1 / (1 + np.exp(-v))
        stretched = STRETCH * s - (STRETCH - 1) / 2
        h = np.clip(stretched, 0, 1)
        gradient = 2 * gap * ((offset + gap * h) @ matrix) + _push(h, step / STEPS)
        gradient *= STRETCH * s * (1 - s) * ((stretched > 0) & (stretched < 1))
        first += 0.1 * (gradient - first)
        second += 0.001 * (np.square(gradient) - second)
        scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        v -= RATE * first / (1 - 0.9**step) / scale
    up = 1 / (1 + np.exp(-v)) >= 0.5
    return np.where(up, high, low)


def neighbours(weight: Array, grid: IntegerGrid) -> tuple[Array, Array]:
    """The points of the grid below and above each weight, float64; equal where there is no choice."""
    flat = weight.reshape(-1, weight.shape[2])
    nearest = grid.round(flat).astype(np.float64)
    away = np.where(flat >= nearest, 1.0, -1.0)
    other = nearest.copy()
    for probe in PROBES[::-1]:
        found = grid.round(flat + away * probe * grid.scales.astype(np.float64)[:, None]).astype(np.float64)
        other = np.where(found != nearest, found, other)
    nearest, other = (np.where(flat == 0, 0.0, points) for points in (nearest, other))
    low, high = np.minimum(nearest, other), np.maximum(nearest, other)
    return low.reshape(weight.shape), high.reshape(weight.shape)


def _inverse_sigmoid(h: Array) -> Array:
    """V with `h(V) = h`."""
    s = np.clip((h + (STRETCH - 1) / 2) / STRETCH, 1e-3, 1 - 1e-3)
    v: Array = np.log(s / (1 - s))
    return v


def _push(h: Array, progress: float) -> Array:
    """Derivative of the regularizer by h: towards the nearer end."""
    if progress < WARM_UP:
        return np.zeros_like(h)
    beta = BETAS[0] + (BETAS[1] - BETAS[0]) * (progress - WARM_UP) / (1 - WARM_UP)
    centred = 2 * h - 1
    pushed: Array = -2 * WEIGHT * beta * np.sign(centred) * np.abs(centred) ** (beta - 1)
    return pushed.astype(np.float32)
