"""What the recovery steps share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import Layer, find_layers

Item = TypeVar("Item")
Progress = Callable[[int, int], None]

# Each stage runs the network up to its layers once. More stages see more of the layers before them as they
# really became; beyond this many the runs cost more than they give.
MAX_STAGES = 16


def in_stages(items: Sequence[Item], limit: int = MAX_STAGES) -> list[Sequence[Item]]:
    """The items, in order, in at most `limit` runs of nearly equal length."""
    count = min(limit, len(items))
    edges = [round(i * len(items) / count) for i in range(count + 1)] if count else [0]
    return [items[edges[i] : edges[i + 1]] for i in range(count)]


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
