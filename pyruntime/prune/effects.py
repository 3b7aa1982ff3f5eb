"""What the outputs of a network feel of a change in one of its layers, to first order.

With J the derivative of all outputs with respect to a tensor and v a random vector of independent signs,
`E[(v J d)^2] = |J d|^2` for any change d of the tensor: one walk back per batch, with other signs for every
sample, gives the mean square change of the outputs for all layers at once. No labels and no loss are needed.
All figures are relative to the variance of the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.columns import sample_rows
from pyruntime.evaluate import MakeRun, observe
from pyruntime.gradient import Step, differentiate, tensors
from pyruntime.layers import Layer

Array = npt.NDArray[Any]

SAMPLES, BATCH = 256, 16
SEED = 0


@dataclass
class Effects:
    """Mean square change of the outputs, relative to their variance.

    Attributes:
        outputs, inputs: when an output channel `[out]` or an input channel `[in / groups]` of the layer is
            replaced by its mean (the biases after it take that over).
        weights: when a weight is set to zero, `[out, taps, in / groups]`.
    """

    outputs: Array
    inputs: Array
    weights: Array | None = None


def measure_effects(
    model: ir.Model,
    layers: Sequence[Layer],
    data: Mapping[str, Array],
    weights: bool = False,
    make_run: MakeRun | None = None,
) -> dict[str, Effects]:
    """Effects of changes in each layer, by its name, on at most `SAMPLES` samples.

    Args:
        weights: measure those of single weights too.
    Errors: ModelError if an operator has no derivative.
    """
    few = {name: array[:SAMPLES] for name, array in data.items()}
    by_node = {layer.node.name: layer for layer in layers}
    found = {layer.name: _zeros(layer, weights) for layer in layers}
    names = [value.name or "" for value in model.graph.outputs]
    squares, sums, count = 0.0, dict.fromkeys(names, np.zeros(())), 0
    for number, values in enumerate(observe(model, few, tensors(model), make_run, batch=BATCH)):
        generator = np.random.default_rng((SEED, number))
        seeds = {name: generator.choice(np.array([-1, 1], np.float32), values[name].shape) for name in names}
        for step in differentiate(model, values, seeds):
            layer = by_node.get(step.node.name)
            if layer is not None:
                _add(found[layer.name], layer, step, values)
        count += len(values[names[0]])
        for name in names:
            wide = values[name].astype(np.float64)
            squares += float(np.square(wide).sum())
            sums[name] = sums[name] + wide.sum(axis=0)
    mean = sum(float(np.square(total / max(1, count)).sum()) for total in sums.values())
    variance = max(squares / max(1, count) - mean, 1e-30) * max(1, count)
    for entry in found.values():
        for key, array in vars(entry).items():
            setattr(entry, key, None if array is None else array / variance)
    return found


def _zeros(layer: Layer, weights: bool) -> Effects:
    shape = layer.array().shape
    return Effects(np.zeros(shape[0]), np.zeros(shape[2]), np.zeros(shape) if weights else None)


def _add(sums: Effects, layer: Layer, step: Step, values: Mapping[str, Array]) -> None:
    y, x = (values[_name(value)] for value in (step.node.outputs[0], step.node.inputs[0]))
    sums.outputs += np.square(_along(layer, step.output, _centred(layer, y))).sum(axis=0)
    if step.inputs[0] is not None:
        per_channel = _along(layer, step.inputs[0], _centred(layer, x))
        by_group = per_channel.reshape(len(x), layer.groups, -1).sum(axis=1)
        sums.inputs += np.square(by_group).sum(axis=0)
    if sums.weights is not None:
        weight = layer.array().reshape(layer.groups, -1, layer.array()[0].size)
        for sample in range(len(x)):
            rows = sample_rows(layer, x[sample : sample + 1], 1 << 30, np.random.default_rng(0))
            upstream = _last(layer, step.output[sample : sample + 1])
            upstream = upstream.reshape(rows.shape[1], layer.groups, -1).transpose(1, 2, 0)
            sums.weights += np.square((upstream @ rows) * weight).reshape(sums.weights.shape)


def _along(layer: Layer, a: Array, b: Array) -> Array:
    """Sum of products over all positions, `[samples, channels]`."""
    product = _last(layer, a * b).astype(np.float64)
    result: Array = product.reshape(len(product), -1, product.shape[-1]).sum(axis=1)
    return result


def _centred(layer: Layer, x: Array) -> Array:
    axis = 1 if layer.node.op_type == "Conv" else x.ndim - 1
    result: Array = x - x.mean(axis=tuple(i for i in range(x.ndim) if i != axis), keepdims=True)
    return result


def _last(layer: Layer, x: Array) -> Array:
    return np.moveaxis(x, 1, -1) if layer.node.op_type == "Conv" else x


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
