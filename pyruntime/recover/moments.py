"""How strongly each weight's input speaks: the diagonal of what rounding errors are weighed by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.columns import second_moments
from pyruntime.evaluate import MakeRun, observe
from pyruntime.layers import find_layers


def input_moments(
    model: ir.Model, data: Mapping[str, npt.NDArray[Any]], *, make_run: MakeRun | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Mean square over the data of what each weight multiplies, in the float network: layer name ->
    `[out, taps * in]`.
    """
    layers = find_layers(model)
    names = {
        layer.name: layer.node.inputs[0].name or "" for layer in layers if layer.node.inputs[0] is not None
    }
    found: dict[str, npt.NDArray[np.float64]] = {}
    batches = 0
    for values in observe(model, data, list(names.values()), make_run):
        if any(values[name].size == 0 for name in names.values()):
            continue
        batches += 1
        for layer in layers:
            moments = second_moments(layer, values[names[layer.name]])
            found[layer.name] = found.get(layer.name, 0.0) + moments
    return {name: moments / batches for name, moments in found.items()}
