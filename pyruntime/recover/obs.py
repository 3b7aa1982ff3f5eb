"""Optimal brain surgery: choose what falls by what it costs, and let the remaining weights make up for it.

For a layer with weight rows w0 before pruning, inputs X as the compressed network makes them, and outputs y0
of the float network, the surviving weights of each row minimise

    | y0 - w X - b |^2 / n + damping | w - w0 |^2

so they also make up for what earlier layers lost. Where the layer's output is summed with a tensor s that is
made earlier (a residual), y0 takes in s0 - s, the error of that branch, too. With H = cov(X) + damping I,
dropping the entries B of a row costs `w_B (H^-1_BB)^-1 w_B^T` once the others have adapted (Hassibi & Stork
1993; Frantar & Alistarh 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.columns import sample_outputs, sample_rows
from pyruntime.evaluate import MakeRun, batch_size, sample_count
from pyruntime.layers import Layer
from pyruntime.prefix import Prefix
from pyruntime.prune.granularity import find
from pyruntime.recover import solve
from pyruntime.recover.common import Progress, changed_layers, get_bias, set_layer, summed_with
from pyruntime.recover.sums import Sums, inputs_and_targets

Array = npt.NDArray[Any]

ROWS = 1 << 14  # input rows of a layer, over all samples
SEED = 0


@dataclass
class Task:
    """One layer: `mask` is what pruning kept, `partner` the name of the tensor its output is summed with."""

    layer: Layer
    original: Layer
    mask: npt.NDArray[np.bool_]
    partner: str = ""


def update_pruned(
    model: ir.Model,
    reference: ir.Model,
    data: Mapping[str, Array],
    granularities: Mapping[str, str],
    *,
    make_run: MakeRun | None = None,
    progress: Progress | None = None,
) -> None:
    """Choose the zeros of every pruned layer anew, as many as it has, and update its other weights and its
    bias, in place.

    Args:
        model: the pruned float model.
        reference: the same model before pruning, with the same names.
        data: calibration data.
        granularities: weight name -> granularity it was pruned with; a missing weight keeps its zeros.
    Layers are treated front to back. Depthwise layers, and weights that several layers share, stay as they
    are.
    """
    order = {node: index for index, node in enumerate(graph.topological_nodes(model))}
    tasks = [
        Task(layer, original, layer.array() != 0, summed_with(layer, order))
        for layer, original in changed_layers(model, reference)
        if not layer.depthwise
    ]
    for task in tasks:
        set_layer(model, task.layer, task.original.array(), None)
    size = batch_size(reference, data)
    now = Prefix(model, data, make_run, batch=size)
    then = Prefix(reference, data, make_run, batch=size)
    rows = -(-ROWS // max(1, sample_count(data)))
    for number, task in enumerate(tasks):
        found = _gather(task, now, then, rows)
        _update(model, task, found, granularities.get(task.layer.weight_name))
        if progress is not None:
            progress(number + 1, len(tasks))


def _gather(task: Task, now: Prefix, then: Prefix, rows: int) -> list[Sums]:
    """Sums of each group of a layer, over `rows` positions of each sample.

    Args:
        now, then: the compressed network, the float network.
    """
    found = [Sums() for _ in range(task.layer.groups)]
    pairs = inputs_and_targets(task.layer, task.original, task.partner, now, then)
    for batch, (x, y) in enumerate(pairs):
        if y.size == 0:
            continue
        count = rows * len(x)
        x_rows = sample_rows(task.layer, x, count, np.random.default_rng((SEED, batch)))
        y_rows = sample_outputs(task.layer, y, count, np.random.default_rng((SEED, batch)))
        for group, sums in enumerate(found):
            sums.update(x_rows[group], y_rows[group])
    return found


def _update(model: ir.Model, task: Task, found: Sequence[Sums], granularity: str | None) -> None:
    weight0, groups = task.original.array(), task.layer.groups
    rows = weight0.shape[0] // groups
    weight = np.where(task.mask, weight0, 0).astype(np.float64)
    bias = get_bias(task.original).copy()
    for group, sums in enumerate(found):
        if sums.count == 0:
            continue
        part = slice(group * rows, (group + 1) * rows)
        (x, y), (covariance, cross) = sums.means(), sums.moments()
        assert cross is not None
        problem = solve.Problem.of(covariance, cross, weight0[part].reshape(rows, -1).astype(np.float64))
        kept, start = task.mask[part], problem.weight0
        pattern = find(granularity) if granularity is not None else None
        if pattern is not None:
            kept, start = solve.select(problem, pattern, kept)
        new = solve.least_squares(problem, kept.reshape(rows, -1), start)
        if np.isfinite(new).all():
            weight[part] = new.reshape(kept.shape)
            bias[part] = y - new @ x
    set_layer(model, task.layer, weight, bias)
