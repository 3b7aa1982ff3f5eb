"""Round weights to their grid with error feedback: what one column loses, the columns after it take over.

For each output channel, with H the damped covariance of the layer's inputs and w0 the weights that give the
wanted outputs on these inputs, the rounded weights approach the minimum of `(w - w0) H (w - w0)^T`:

1. column by column (GPTQ, Frantar et al. 2023, algorithm 1): round column i, then move the columns not yet
   rounded by the error times row i of the Cholesky factor of H^-1; columns with more signal go first;
2. then by coordinate descent: each weight in turn takes the point of the grid that is best given all others.

Where weights share values and have no choice (hashed), the values are fitted instead (`hashing`).

Sequentially, a layer sees the inputs that the layers before it, already rounded, give it, while the
wanted outputs stay those of the float network. Weights that are zero stay zero. The bias takes back what is
left of the shift of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.columns import mean_input, mean_output, sample_outputs, sample_rows
from pyruntime.evaluate import MakeRun, batch_size, observe, sample_count
from pyruntime.layers import Layer
from pyruntime.prefix import Prefix
from pyruntime.quantize.schemes import Grid, IntegerGrid
from pyruntime.quantize.schemes.hashed import FixedGrid
from pyruntime.recover import solve
from pyruntime.recover.adaround import soft_round
from pyruntime.recover.common import Progress, get_bias, own_layers, set_layer, summed_with, value_name
from pyruntime.recover.hashing import fit_vector
from pyruntime.recover.sums import Sums, inputs_and_targets

Array = npt.NDArray[Any]

COLUMNS = 32  # rounded before the rest of the columns learns of their errors
SMALL = 64  # triangular matrices up to this size are inverted as any matrix
# Input rows of a layer with k columns, and the least of them: four times k for a covariance of full rank;
# more where weights are fitted to outputs too (EfficientNet-Lite0 at int5: 13.8 dB with half of it, 14.2 dB
# with this; at int8, where nothing is fitted, the fewer do as well in two thirds of the time).
ROUNDED_ROWS, FITTED_ROWS = (4, 1 << 10), (16, 1 << 13)
# Rows of one sample are alike: it is samples, few or many, that k weights are fitted to. So damping grows
# with k over their number (a ridge), up to where little is left of the fit.
RIDGE, MOST_DAMPING = 0.1, 1.0
SEED = 0


@dataclass
class Task:
    """One layer: its form in the float network, the tensor its output is summed with ("" if none), and what
    the data tells: moments of a choice of rows for each group, sums of the mean input `[groups, taps, in]`
    and of the mean wanted output `[out]` over all samples.
    """

    layer: Layer
    original: Layer
    partner: str
    moments: list[Sums] = field(default_factory=list)
    samples: int = 0
    x: Array | float = 0.0
    y: Array | float = 0.0


def round_weights(
    model: ir.Model,
    data: Mapping[str, Array],
    grids: MutableMapping[tuple[str, int], Grid],
    *,
    sequential: bool = False,
    sweeps: int = 0,
    learned: bool = False,
    make_run: MakeRun | None = None,
    progress: Progress | None = None,
) -> None:
    """Put every weight of a float model that has a grid on it, in place.

    Args:
        data: calibration data.
        grids: by weight name and axis of the output channels; those of hashed weights are replaced.
        sequential: each layer sees the inputs that the layers before it, already rounded, give it. For 8 bits
            not worth its time.
        sweeps: of coordinate descent; the same holds.
        learned: try AdaRound too, and keep for each output channel what is closer to the float layer; takes
            several times as long.
    Weights that several layers share stay as they are.
    """
    reference = graph.clone(model)
    originals = own_layers(reference)
    order = {node: index for index, node in enumerate(graph.topological_nodes(model))}
    tasks = [
        Task(layer, originals[name], summed_with(layer, order))
        for name, layer in own_layers(model).items()
        if (layer.weight_name, layer.axis) in grids
    ]
    samples = max(1, sample_count(data))
    if sequential:
        size = batch_size(model, data)
        now, then = (Prefix(m, data, make_run, batch=size) for m in (model, reference))
    else:
        names = [value_name(task.layer.node.inputs[0]) for task in tasks]
        for batch, values in enumerate(observe(model, data, names, make_run)):
            for task, name in zip(tasks, names, strict=True):
                _add(task, batch, values[name], None, samples)
    for number, task in enumerate(tasks):
        if sequential:
            pairs = inputs_and_targets(task.layer, task.original, task.partner, now, then)
            for batch, (x, y) in enumerate(pairs):
                _add(task, batch, x, y, samples)
        key = (task.layer.weight_name, task.layer.axis)
        grids[key] = _round_layer(model, task, grids[key], sweeps, learned)
        task.moments.clear()
        if progress is not None:
            progress(number + 1, len(tasks))


def _add(task: Task, batch: int, x: Array, y: Array | None, samples: int) -> None:
    """Take in a batch: what the layer reads, and the outputs wanted of it (None: the float layer's)."""
    size = task.layer.array()[0].size
    per_column, least = ROUNDED_ROWS if y is None else FITTED_ROWS
    count = -(-max(least, per_column * size) * len(x) // samples)
    rows = sample_rows(task.layer, x, count, np.random.default_rng((SEED, batch)))
    if rows.shape[1] == 0:
        return
    if not task.moments:
        task.moments = [Sums() for _ in range(task.layer.groups)]
    task.samples += len(x)
    task.x = task.x + mean_input(task.layer, x) * len(x)
    outputs = None
    if y is not None:
        task.y = task.y + mean_output(task.layer, y) * len(x)
        outputs = sample_outputs(task.layer, y, count, np.random.default_rng((SEED, batch)))
    for group, sums in enumerate(task.moments):
        sums.update(rows[group], None if outputs is None else outputs[group])


def damping(size: int, samples: int) -> float:
    """For layers with that many columns, and data of that many samples."""
    return min(max(solve.DAMPING, RIDGE * size / max(1, samples)), MOST_DAMPING)


def _target(sums: Sums, weight: Array, centred: bool, damped: float) -> tuple[Array, Array]:
    """Damped second moment of the inputs `[k, k]`, and weights `[out, k]` that best give the wanted outputs.

    Args: weight: `[out, k]`, of the float layer; centred: a bias takes up the means.
    """
    xx, yx = sums.moments(centred)
    if yx is None:
        return solve.Problem.of(xx, weight @ xx, weight, damped).hessian, weight
    problem = solve.Problem.of(xx, yx, weight, damped)
    return problem.hessian, solve.least_squares(problem, weight != 0)


def _round_layer(model: ir.Model, task: Task, grid: Grid, sweeps: int, learned: bool) -> Grid:
    """Put a layer on its grid. Returns the grid, another one if it had to be fitted."""
    if not task.samples:
        return grid
    layer, weight = task.layer, task.original.array()
    start = weight.reshape(layer.groups, -1, weight[0].size).astype(np.float64)
    centred = layer.node.op_type != "MatMul"
    damped = damping(weight[0].size, task.samples)
    found = [_target(sums, old, centred, damped) for sums, old in zip(task.moments, start, strict=True)]
    hessian, target = (np.stack(parts) for parts in zip(*found, strict=True))
    if isinstance(grid, FixedGrid):
        grid = fit_vector(hessian, target, grid)
    rounded = refine_columns(hessian, target, round_columns(hessian, target, grid), grid, sweeps)
    if learned and isinstance(grid, IntegerGrid):
        other = refine_columns(hessian, target, soft_round(hessian, target, grid), grid, sweeps)
        closer = _errors(hessian, target, other) < _errors(hessian, target, rounded)
        rounded = np.where(closer[:, :, None], other, rounded)
    x = (np.asarray(task.x) / task.samples).reshape(layer.groups, -1)
    if np.ndim(task.y):
        bias = np.asarray(task.y) / task.samples - np.einsum("gok,gk->go", rounded, x).reshape(-1)
    else:
        bias = get_bias(task.original) + np.einsum("gok,gk->go", start - rounded, x).reshape(-1)
    if np.isfinite(rounded).all() and np.isfinite(bias).all():
        set_layer(model, layer, rounded.reshape(weight.shape), bias)
    return grid


def round_columns(hessian: Array, weight: Array, grid: Grid) -> Array:
    """The weights on the grid, `[groups, rows, k]`.

    Args:
        hessian: `[groups, k, k]`, positive definite.
        weight: `[groups, rows, k]`; the output channels of the grid are groups times rows.
    """
    groups, rows, size = weight.shape
    if grid.fixed:
        return grid.round(weight.reshape(-1, size)).astype(np.float64).reshape(weight.shape)
    order = np.argsort(-np.einsum("gkk->k", hessian), kind="stable")
    upper = _inverse_factor(hessian[:, order[:, None], order[None, :]])
    # Columns first, so that each lies in one piece.
    current = np.ascontiguousarray(weight.transpose(2, 0, 1)[order])
    rounded = np.empty_like(current)
    errors = np.empty((COLUMNS, groups, rows))
    for first in range(0, size, COLUMNS):
        last = min(first + COLUMNS, size)
        for i in range(first, last):
            column = grid.round(current[i].reshape(-1, 1), order[i : i + 1]).reshape(groups, rows)
            rounded[i] = np.where(weight[:, :, order[i]] != 0, column, 0.0)
            error = errors[i - first] = (current[i] - rounded[i]) / upper[:, i, i][:, None]
            current[i + 1 : last] -= upper[:, i, i + 1 : last].T[:, :, None] * error
        if last < size:
            pushed = upper[:, first:last, last:].transpose(0, 2, 1) @ errors.transpose(1, 0, 2)
            current[last:] -= pushed.transpose(1, 0, 2)
    result = np.empty_like(weight)
    result[:, :, order] = rounded.transpose(1, 2, 0)
    return result


def _errors(hessian: Array, weight: Array, rounded: Array) -> Array:
    """What rounding costs the outputs, `[groups, rows]`."""
    lost = rounded - weight
    errors: Array = ((lost @ hessian) * lost).sum(axis=2)
    return errors


def _inverse_factor(hessian: Array) -> Array:
    """Upper U with `U^T U = H^-1`, `[groups, k, k]`: the inverse of the upper factor of `H = V V^T`."""
    backwards = hessian[:, ::-1, ::-1]
    diagonal = np.einsum("gkk->gk", hessian).mean(axis=1)[:, None, None] * np.eye(hessian.shape[1])
    for damping in (0.0, 0.01, 0.1):
        try:
            factor = np.linalg.cholesky(backwards + damping * diagonal)
        except np.linalg.LinAlgError:
            continue
        return _inverse_upper(factor[:, ::-1, ::-1])
    only: Array = np.sqrt(1 / np.maximum(diagonal, 1e-30)) * np.eye(hessian.shape[1])
    return only


def _inverse_upper(upper: Array) -> Array:
    """The inverse of upper triangular matrices `[groups, k, k]`, by halves: a sixth of the operations of
    `np.linalg.inv`.
    """
    size = upper.shape[1]
    if size <= SMALL:
        return np.linalg.inv(upper)
    half = size // 2
    inverse = np.zeros_like(upper)
    inverse[:, :half, :half] = first = _inverse_upper(upper[:, :half, :half])
    inverse[:, half:, half:] = second = _inverse_upper(upper[:, half:, half:])
    inverse[:, :half, half:] = -first @ (upper[:, :half, half:] @ second)
    return inverse


def refine_columns(hessian: Array, weight: Array, rounded: Array, grid: Grid, sweeps: int) -> Array:
    """Rounded weights `[groups, rows, k]` that are no worse: each in turn takes its best point of the grid.

    Args: as `round_columns`; rounded: the start, on the grid.
    """
    groups, rows, size = weight.shape
    diagonal = np.einsum("gkk->gk", hessian)
    kept = weight != 0
    rounded = rounded.copy()
    slope = (rounded - weight) @ hessian
    for _ in range(0 if grid.fixed else sweeps):
        before = rounded.copy()
        for first in range(0, size, COLUMNS):
            part = slice(first, min(first + COLUMNS, size))
            near = slope[:, :, part].copy()
            for i in range(part.start, part.stop):
                best = rounded[:, :, i] - near[:, :, i - first] / diagonal[:, i, None]
                column = grid.round(best.reshape(-1, 1), np.array([i])).reshape(groups, rows)
                step = np.where(kept[:, :, i], column - rounded[:, :, i], 0.0)
                near += step[:, :, None] * hessian[:, i, None, part]
                rounded[:, :, i] += step
            slope += (rounded[:, :, part] - before[:, :, part]) @ hessian[:, part]
        if np.array_equal(before, rounded):
            break
    return rounded
