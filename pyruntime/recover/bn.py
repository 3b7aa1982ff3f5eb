"""Statistics matching: give each output channel of a pruned layer the mean and deviation it had in the float
network.

It is what re-estimating batch normalization does, for networks whose normalization is already folded into
the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.evaluate import MakeRun
from pyruntime.layers import Layer
from pyruntime.prefix import Prefix
from pyruntime.recover.common import Progress, changed_layers, get_bias, set_layer

# A channel whose deviation fell below this part of the original carries no signal to scale up.
MAX_GAIN = 4.0


@dataclass
class Moments:
    """Sums over samples and positions, per channel."""

    count: int = 0
    total: npt.NDArray[np.float64] | float = 0.0
    squares: npt.NDArray[np.float64] | float = 0.0

    def update(self, y: npt.NDArray[Any], channel_axis: int) -> None:
        axes = tuple(axis for axis in range(y.ndim) if axis != channel_axis % y.ndim)
        wide = y.astype(np.float64)
        self.count += y.size // max(1, y.shape[channel_axis])
        self.total = self.total + wide.sum(axis=axes)
        self.squares = self.squares + np.square(wide).sum(axis=axes)

    def mean_std(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean = np.asarray(self.total) / self.count
        return mean, np.sqrt(np.maximum(np.asarray(self.squares) / self.count - np.square(mean), 0.0))


def match_statistics(
    model: ir.Model,
    reference: ir.Model,
    data: Mapping[str, npt.NDArray[Any]],
    *,
    make_run: MakeRun | None = None,
    progress: Progress | None = None,
) -> None:
    """Fold `y' = (y - mean_q) std / std_q + mean` into weight and bias of every pruned layer, in place,
    front to back: each is measured once those before it are right.

    Args:
        model: the pruned float model.
        reference: the same model before pruning.
        data: calibration data.
    A channel that no longer varies keeps its weights and gets the right mean.
    """
    pairs = changed_layers(model, reference)
    now, then = Prefix(model, data, make_run), Prefix(reference, data, make_run)
    for number, (layer, original) in enumerate(pairs):
        found, wanted = _moments(layer, now), _moments(original, then)
        if found.count and wanted.count:
            _fold(model, layer, found, wanted)
        if progress is not None:
            progress(number + 1, len(pairs))


def _moments(layer: Layer, prefix: Prefix) -> Moments:
    """Of the layer's outputs; moves the cut to just before it."""
    prefix.advance(layer.node)
    moments = Moments()
    name = layer.node.outputs[0].name or ""
    for values in prefix.values([name]):
        moments.update(values[name], 1 if layer.node.op_type == "Conv" else -1)
    return moments


def _fold(model: ir.Model, layer: Layer, moments: Moments, wanted: Moments) -> None:
    mean_q, std_q = moments.mean_std()
    mean, std = wanted.mean_std()
    gain = channel_gain(std, std_q)
    weight = layer.array() * gain[:, None, None]
    bias = (get_bias(layer) - mean_q) * gain + mean
    if np.isfinite(weight).all() and np.isfinite(bias).all():
        set_layer(model, layer, weight, bias)


def channel_gain(std: npt.NDArray[np.float64], std_q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`std / std_q`, at most `MAX_GAIN`; 1 for channels that do not vary."""
    varies = (std_q > 1e-12 * np.max(std, initial=0.0)) & (std_q > 0) & (std > 0)
    ratio = np.divide(std, std_q, out=np.ones_like(std), where=varies)
    return np.clip(ratio, 1.0 / MAX_GAIN, MAX_GAIN)
