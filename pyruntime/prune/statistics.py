"""What calibration data say of the layers of a float network, for criteria that look at more than weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.columns import sample_rows
from pyruntime.evaluate import MakeRun, observe, sample_count
from pyruntime.layers import Layer
from pyruntime.prune.criteria import Measured
from pyruntime.prune.effects import measure_effects

Array = npt.NDArray[Any]

ROWS = 1 << 14  # input rows of a layer, over all samples
SEED = 0


@dataclass
class _Sums:
    rows: int = 0
    x: Array | float = 0.0
    xx: Array | float = 0.0
    positions: int = 0
    y: Array | float = 0.0
    yy: Array | float = 0.0

    def add_inputs(self, x: Array) -> None:
        """Rows `[groups, rows, k]`."""
        self.rows += x.shape[1]
        self.x = self.x + x.sum(axis=1, dtype=np.float64)
        self.xx = self.xx + x.transpose(0, 2, 1) @ x

    def add_outputs(self, y: Array) -> None:
        """Outputs `[positions, out]`."""
        wide = y.astype(np.float64)
        self.positions += len(wide)
        self.y = self.y + wide.sum(axis=0)
        self.yy = self.yy + np.square(wide).sum(axis=0)


def measure(
    model: ir.Model,
    layers: Sequence[Layer],
    data: Mapping[str, Array],
    needs: Collection[str],
    make_run: MakeRun | None = None,
) -> dict[str, Measured]:
    """Layer name -> what was measured of it.

    Args:
        model: float network; layers: of this network.
        data: calibration data.
        needs: as `Criterion.needs`.
    Errors: ModelError if gradients are needed and an operator has none.
    """
    sums = {layer.name: _Sums() for layer in layers}
    names = [(_name(layer.node.inputs[0]), _name(layer.node.outputs[0])) for layer in layers]
    rows = -(-ROWS // max(1, sample_count(data)))
    wanted = [name for pair in names for name in pair]
    for number, values in enumerate(observe(model, data, wanted, make_run)):
        for layer, (source, result) in zip(layers, names, strict=True):
            y = _channels_last(layer, values[result])
            if y.size == 0:
                continue
            sums[layer.name].add_outputs(y.reshape(-1, y.shape[-1]))
            if "moments" in needs:
                count = rows * len(values[source])
                generator = np.random.default_rng((SEED, number))
                sums[layer.name].add_inputs(sample_rows(layer, values[source], count, generator))
    measured = {name: _measured(entry) for name, entry in sums.items() if entry.positions}
    if "gradients" not in needs and "weight gradients" not in needs:
        return measured
    effects = measure_effects(model, layers, data, "weight gradients" in needs, make_run)
    return {name: replace(entry, **vars(effects[name])) for name, entry in measured.items()}


def _measured(sums: _Sums) -> Measured:
    mean = np.asarray(sums.y) / sums.positions
    variance = np.maximum(np.asarray(sums.yy) / sums.positions - np.square(mean), 0.0)
    found = Measured(deviation=np.sqrt(variance), signal=float(variance.mean()))
    if not sums.rows:
        return found
    return replace(found, mean=np.asarray(sums.x) / sums.rows, moments=np.asarray(sums.xx) / sums.rows)


def _channels_last(layer: Layer, y: Array) -> Array:
    return np.moveaxis(y, 1, -1) if layer.node.op_type == "Conv" else y


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
