"""Bias correction: rounding the weights shifts the mean of an output channel; its bias takes that back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.columns import mean_input
from pyruntime.evaluate import MakeRun, observe
from pyruntime.layers import find_layers
from pyruntime.quantize.schemes import Grid
from pyruntime.recover.common import get_bias, set_layer


def correct_bias(
    model: ir.Model,
    data: Mapping[str, npt.NDArray[Any]],
    grids: Mapping[tuple[str, int], Grid],
    *,
    make_run: MakeRun | None = None,
) -> None:
    """Add `(W - Wq) E[x]` to the bias of every layer of a float model about to be quantized, in place.

    `Wq` is W on its grid (`grids`: by weight name and axis of the output channels), `E[x]` the mean over the
    data of what each weight multiplies, in the float network: one pass for all layers, since each correction
    restores the mean that the next layer was trained on (Nagel et al. 2019). A MatMul, which has no bias, is
    left alone.
    """
    layers = [layer for layer in find_layers(model) if layer.node.op_type != "MatMul"]
    inputs = {layer: layer.node.inputs[0].name or "" for layer in layers if layer.node.inputs[0] is not None}
    means: dict[str, npt.NDArray[np.float64]] = {}
    batches = 0
    for values in observe(model, data, list(inputs.values()), make_run):
        if any(len(values[name]) == 0 for name in inputs.values()):
            continue
        batches += 1
        for layer, name in inputs.items():
            means[layer.name] = means.get(layer.name, 0.0) + mean_input(layer, values[name])
    for layer in inputs:
        if layer.name in means:
            grid = grids[layer.weight_name, layer.axis]
            shift = bias_shift(layer.array(), means[layer.name] / batches, grid)
            if np.isfinite(shift).all():
                set_layer(model, layer, None, get_bias(layer) + shift)


def bias_shift(
    weight: npt.NDArray[Any], mean: npt.NDArray[np.float64], grid: Grid
) -> npt.NDArray[np.float64]:
    """`(W - Wq) E[x]` per output channel.

    Args:
        weight: `[out, taps, in]`, float32.
        mean: `[groups, taps, in]`; group g feeds the g-th part of the output channels.
        grid: of the weight.
    """
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    lost = flat - grid.round(flat)
    by_group = lost.reshape(len(mean), -1, *weight.shape[1:])
    shift: npt.NDArray[np.float64] = np.einsum("goti,gti->go", by_group, mean).reshape(-1)
    return shift
