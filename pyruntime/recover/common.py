"""What the recovery steps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import Layer, find_layers

Progress = Callable[[int, int], None]


def value_name(value: ir.Value | None) -> str:
    """Name of a tensor, "" for an absent one."""
    return "" if value is None else value.name or ""


def own_layers(model: ir.Model) -> dict[str, Layer]:
    """Layers whose weight nothing else reads, by name: only those can be changed for their own sake."""
    return {layer.name: layer for layer in find_layers(model) if len(layer.weight.uses()) == 1}


def get_bias(layer: Layer) -> npt.NDArray[np.float64]:
    """Bias of the layer, `[out]`; zeros if it has none."""
    channels = layer.shape[layer.axis]
    array = graph.constant(layer.bias)
    if layer.bias is None or array is None:
        return np.zeros(channels)
    array = graph.viewed(layer.bias, array)
    bias: npt.NDArray[np.float64] = np.broadcast_to(array.reshape(-1).astype(np.float64), (channels,))
    return bias


def set_layer(
    model: ir.Model, layer: Layer, weight: npt.NDArray[Any] | None, bias: npt.NDArray[Any] | None
) -> None:
    """Give a layer a new weight `[out, taps, in]` and a new bias `[out]`; None leaves it as it is."""
    if weight is not None:
        graph.set_initializer(model, layer.weight, layer.stored(weight.astype(np.float32)))
    if bias is not None and layer.node.op_type != "MatMul":
        graph.replace_constant_input(layer.node, 2, bias.astype(np.float32), f"{layer.name}_bias")


def changed_layers(model: ir.Model, reference: ir.Model) -> list[tuple[Layer, Layer]]:
    """Pairs (layer, the reference's layer) that lost weights, to zeros or with their channels, in order."""
    originals = {layer.name: layer for layer in find_layers(reference)}
    pairs = []
    for name, layer in own_layers(model).items():
        original = originals.get(name)
        if original is None or original.shape != layer.shape:
            continue
        smaller = graph.has_view(original.weight)
        if smaller or np.count_nonzero(layer.array()) < np.count_nonzero(original.array()):
            pairs.append((layer, original))
    return pairs


def summed_with(layer: Layer, order: Mapping[ir.Node, int]) -> str:
    """The tensor that the layer's output is summed with, if it is made before the layer runs, else ""."""
    reader = graph.sole_consumer(layer.node.outputs[0])
    if reader is None or reader.op_type != "Add":
        return ""
    (other,) = (value for value in reader.inputs if value is not layer.node.outputs[0])
    producer = None if other is None else other.producer()
    if other is None or producer is None or order[producer] >= order[layer.node]:
        return ""
    return other.name or ""
