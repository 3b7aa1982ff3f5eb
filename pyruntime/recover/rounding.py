"""Round weights to their grid with error feedback: what one column loses, the columns after it take over.

For each output channel, with H the damped second moment of the layer's inputs, the rounded weights approach
the minimum of `(w - w0) H (w - w0)^T` column by column (GPTQ, Frantar et al. 2023, algorithm 1): round column
i, then move the columns not yet rounded by the error times row i of the Cholesky factor of H^-1. Columns with
more signal go first. Weights that are zero stay zero. The bias takes back what is left of the shift of the
mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.columns import mean_input, sample_rows
from pyruntime.evaluate import MakeRun, observe, sample_count
from pyruntime.layers import Layer
from pyruntime.quantize.schemes import IntegerGrid
from pyruntime.recover.common import Progress, get_bias, in_stages, own_layers, set_layer

Array = npt.NDArray[Any]

DAMPING = 0.01  # of the mean diagonal
COLUMNS = 128  # rounded before the rest of the columns learns of their errors
# Input rows of a layer with k columns: enough for a covariance of full rank, and for its small ones too.
ROWS_PER_COLUMN, LEAST_ROWS = 4, 1 << 10
SEED = 0


@dataclass
class InputSums:
    """Of one layer: second moments `[groups, k, k]` over rows, mean `[groups, taps, in]` over batches."""

    rows: int = 0
    xx: Array | float = 0.0
    batches: int = 0
    mean: Array | float = 0.0


def round_weights(
    model: ir.Model,
    data: Mapping[str, Array],
    grids: Mapping[tuple[str, int], IntegerGrid],
    *,
    stages: int = 1,
    make_run: MakeRun | None = None,
    progress: Progress | None = None,
) -> None:
    """Put every weight of a float model that is about to be quantized on its grid, in place.

    Args:
        data: calibration data.
        grids: by weight name and axis of the output channels.
        stages: in how many runs of the network; a layer sees what the layers of earlier stages became. For
            8 bits one is enough.
    Weights that several layers share stay as they are.
    """
    parts = in_stages(list(own_layers(model).values()), stages)
    for number, layers in enumerate(parts):
        found = _gather(model, data, layers, make_run)
        for layer, sums in zip(layers, found, strict=True):
            if sums.rows:
                _round_layer(model, layer, sums, grids[layer.weight_name, layer.axis])
        if progress is not None:
            progress(number + 1, len(parts))


def _gather(
    model: ir.Model, data: Mapping[str, Array], layers: Sequence[Layer], make_run: MakeRun | None
) -> list[InputSums]:
    found = [InputSums() for _ in layers]
    names = [value.name or "" for value in (layer.node.inputs[0] for layer in layers) if value is not None]
    samples = max(1, sample_count(data))
    for batch, values in enumerate(observe(model, data, names, make_run)):
        for layer, name, sums in zip(layers, names, found, strict=True):
            x = values[name]
            columns = layer.array()[0].size
            wanted = max(LEAST_ROWS, ROWS_PER_COLUMN * columns)
            generator = np.random.default_rng((SEED, batch))
            rows = sample_rows(layer, x, -(-wanted * len(x) // samples), generator)
            if rows.shape[1] == 0:
                continue
            sums.rows += rows.shape[1]
            sums.xx = sums.xx + (rows.transpose(0, 2, 1) @ rows).astype(np.float64)
            sums.batches += 1
            sums.mean = sums.mean + mean_input(layer, x)
    return found


def _round_layer(model: ir.Model, layer: Layer, sums: InputSums, grid: IntegerGrid) -> None:
    weight = layer.array()
    moments, mean = np.asarray(sums.xx) / sums.rows, np.asarray(sums.mean) / sums.batches
    start = weight.reshape(len(moments), -1, moments.shape[1]).astype(np.float64)
    rounded = round_columns(damped(moments), start, grid)
    shift = np.einsum("gok,gk->go", start - rounded, mean.reshape(len(moments), -1)).reshape(-1)
    if np.isfinite(rounded).all() and np.isfinite(shift).all():
        set_layer(model, layer, rounded.reshape(weight.shape), get_bias(layer) + shift)


def damped(moments: Array) -> Array:
    """H `[groups, k, k]` with an inverse also where inputs are constant or copies of each other."""
    mean = np.einsum("gkk->gk", moments).mean(axis=1)
    damping = np.where(mean > 0, DAMPING * mean, 1.0)
    return moments + damping[:, None, None] * np.eye(moments.shape[1])


def round_columns(hessian: Array, weight: Array, grid: IntegerGrid) -> Array:
    """The weights on the grid, `[groups, rows, k]`.

    Args:
        hessian: `[groups, k, k]`, positive definite.
        weight: `[groups, rows, k]`; the output channels of the grid are groups times rows.
    """
    groups, rows, size = weight.shape
    order = np.argsort(-np.einsum("gkk->k", hessian), kind="stable")
    inverse = np.linalg.inv(hessian[:, order[:, None], order[None, :]])
    upper = np.linalg.cholesky(inverse).transpose(0, 2, 1)
    current = weight[:, :, order]
    kept = current != 0
    rounded = np.empty_like(current)
    for first in range(0, size, COLUMNS):
        last = min(first + COLUMNS, size)
        errors = np.empty((groups, rows, last - first))
        for i in range(first, last):
            column = grid.round(current[:, :, i].reshape(-1, 1), order[i : i + 1]).reshape(groups, rows)
            rounded[:, :, i] = np.where(kept[:, :, i], column, 0.0)
            error = (current[:, :, i] - rounded[:, :, i]) / upper[:, i, i][:, None]
            current[:, :, i + 1 : last] -= error[:, :, None] * upper[:, i, None, i + 1 : last]
            errors[:, :, i - first] = error
        current[:, :, last:] -= errors @ upper[:, first:last, last:]
    result = np.empty_like(rounded)
    result[:, :, order] = rounded
    return result
