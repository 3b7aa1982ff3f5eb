"""Optimal brain surgery: choose what falls by what it costs, and let the remaining weights make up for it.

For a layer with weight rows w, inputs X of the already compressed network, inputs X0 of the float network
and ridge `damping`, the surviving weights of each row minimise

    | w0 X0 - w X |^2 + damping | w - w0 |^2        (means taken out; the bias restores them)

so they also make up for what earlier layers lost. With H = X X^T / n + damping I, dropping the entries B of
a row costs `w_B (H^-1_BB)^-1 w_B^T` once the others have adapted (Hassibi & Stork 1993; Frantar & Alistarh
2022). Entries fall in rounds; after each the survivors are solved for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.evaluate import MakeRun, observe, sample_count
from pyruntime.layers import Layer
from pyruntime.prune.granularity import GRANULARITIES
from pyruntime.recover import solve
from pyruntime.recover.columns import sample_rows
from pyruntime.recover.common import Progress, changed_layers, get_bias, in_stages, set_layer

Array = npt.NDArray[Any]

ROWS = 1 << 14  # input rows of a layer, over all samples
SEED = 0


@dataclass
class Covariance:
    """Sums over input rows of one group of a layer: now (x) and in the float network (x0)."""

    count: int
    mean: npt.NDArray[np.float64]
    mean0: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]
    cross: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, columns: int) -> Covariance:
        square = (columns, columns)
        return cls(0, np.zeros(columns), np.zeros(columns), np.zeros(square), np.zeros(square))

    def update(self, x: Array, x0: Array) -> None:
        self.count += len(x)
        self.mean += x.sum(axis=0, dtype=np.float64)
        self.mean0 += x0.sum(axis=0, dtype=np.float64)
        self.products += x.T @ x
        self.cross += x0.T @ x

    def centred(self) -> tuple[Array, Array, Array, Array]:
        """mean, mean0, covariance of x, covariance of x0 with x."""
        mean, mean0 = self.mean / self.count, self.mean0 / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        return mean, mean0, covariance, self.cross / self.count - np.outer(mean0, mean)


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
        reference: the same model before pruning.
        data: calibration data.
        granularities: weight name -> granularity it was pruned with; a weight that is missing keeps its
        zeros.
    Layers are treated front to back. Depthwise layers, and weights that several layers share, stay as they
    are.
    """
    pairs = [pair for pair in changed_layers(model, reference) if not pair[0].depthwise]
    masks = {layer.name: layer.array() != 0 for layer, _ in pairs}
    for layer, original in pairs:
        set_layer(model, layer, original.array(), None)
    stages = in_stages(pairs)
    for number, stage in enumerate(stages):
        covariances = _gather(model, reference, data, stage, make_run)
        for (layer, original), found in zip(stage, covariances, strict=True):
            name = granularities.get(layer.weight_name)
            _update(model, layer, original, found, masks[layer.name], name)
        if progress is not None:
            progress(number + 1, len(stages))


def _gather(
    model: ir.Model,
    reference: ir.Model,
    data: Mapping[str, Array],
    stage: Any,
    make_run: MakeRun | None,
) -> list[list[Covariance]]:
    names = [layer.node.inputs[0].name or "" for layer, _ in stage]
    names0 = [original.node.inputs[0].name or "" for _, original in stage]
    columns = [int(np.prod(layer.array().shape[1:])) for layer, _ in stage]
    found = [
        [Covariance.empty(k) for _ in range(layer.groups)]
        for (layer, _), k in zip(stage, columns, strict=True)
    ]
    per_sample = -(-ROWS // max(1, sample_count(data)))
    both = zip(observe(model, data, names, make_run), observe(reference, data, names0, make_run), strict=True)
    for batch, (values, values0) in enumerate(both):
        for (layer, _), name, name0, groups in zip(stage, names, names0, found, strict=True):
            x, x0 = values[name], values0[name0]
            if x.size == 0:
                continue
            count = per_sample * len(x)
            rows = sample_rows(layer, x, count, np.random.default_rng((SEED, batch)))
            rows0 = sample_rows(layer, x0, count, np.random.default_rng((SEED, batch)))
            for group, sums in enumerate(groups):
                sums.update(rows[group], rows0[group])
    return found


def _update(
    model: ir.Model,
    layer: Layer,
    original: Layer,
    covariances: list[Covariance],
    mask: npt.NDArray[np.bool_],
    granularity: str | None,
) -> None:
    weight0 = original.array()
    rows = weight0.shape[0] // layer.groups
    weight, bias = np.where(mask, weight0, 0).astype(np.float64), get_bias(original).copy()
    for group, sums in enumerate(covariances):
        part = slice(group * rows, (group + 1) * rows)
        if sums.count == 0:
            continue
        mean, mean0, covariance, cross = sums.centred()
        flat0 = weight0[part].reshape(rows, -1).astype(np.float64)
        problem = solve.Problem.of(covariance, cross, flat0)
        kept = mask[part]
        if granularity is not None:
            kept = solve.select(problem, GRANULARITIES[granularity], kept)
        new = solve.least_squares(problem, kept.reshape(rows, -1))
        if not np.isfinite(new).all():
            continue
        weight[part] = new.reshape(kept.shape)
        bias[part] += flat0 @ mean0 - new @ mean
    set_layer(model, layer, weight, bias)
