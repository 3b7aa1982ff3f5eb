"""Bias absorption: what a channel never falls below moves into the biases of the layers that read it, so that
the range of its tensor shrinks (Nagel et al. 2019, section 4.1.3).

Lowering the bias of a producer by c lowers its channel, and every sum it enters, by c; W c at the consumers
makes up for it. A Relu lets that through where the channel is never below c, a Relu6 if it is never above 6
either; the calibration data tell (the paper, which has none, goes by the statistics of batch norm). Channels
without a Relu on their way, those of linear bottlenecks, get the mean 0; that of a sum is then 0 as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.evaluate import MakeRun, observe
from pyruntime.layers import Layer
from pyruntime.recover.common import get_bias, own_layers, set_layer
from pyruntime.recover.spans import Float, Span, by_channel, by_input, find_spans, input_factors, rename

BENT = ("Relu", "LeakyRelu", "Clip")


@dataclass
class Spread:
    """What the data say of the channels of a tensor."""

    low: Float | float = np.inf
    high: Float | float = -np.inf
    total: Float | float = 0.0
    count: int = 0

    def update(self, values: npt.NDArray[Any]) -> None:
        """Add values `[channels, n]`."""
        if values.size:
            self.low = np.minimum(self.low, values.min(axis=1))
            self.high = np.maximum(self.high, values.max(axis=1))
            self.total = self.total + values.sum(axis=1, dtype=np.float64)
            self.count += values.shape[1]

    @property
    def mean(self) -> Float:
        mean: Float = np.asarray(self.total) / self.count
        return mean


def absorb(model: ir.Model, data: Mapping[str, npt.NDArray[Any]], *, make_run: MakeRun | None = None) -> None:
    """Move offsets of channels into the biases behind them, in place; zero weights stay zero.

    Args:
        model: canonical float model.
        data: calibration data.
    Spans read by padded convolutions are left alone: their border reads zeros, which do not move along.
    """
    layers = {layer.node: layer for layer in own_layers(model).values()}
    spans = [(span, inner) for span in find_spans(model) if (inner := _inner(span, layers)) is not None]
    seen = _observe(model, spans, data, make_run)
    for span, inner in spans:
        if all(seen[value].count for value in _watched(span, inner)):
            _absorb(model, span, inner, layers, seen)


def _inner(span: Span, layers: Mapping[ir.Node, Layer]) -> list[ir.Node] | None:
    """The nodes inside a span, in order; None if a shift cannot pass it or has nowhere to go."""
    borders = (*span.producers, *span.consumers)
    if any(node not in layers or node.op_type == "MatMul" for node in borders):
        return None
    if any(_pads(node) for node in span.consumers):
        return None
    inside = [value.producer() for value in span.tensors]
    inner = [node for node in inside if node is not None and node not in layers]
    if any(node.op_type == "Pad" or (node.op_type == "AveragePool" and _pads(node)) for node in inner):
        return None
    order = {node: index for index, node in enumerate(graph.topological_nodes(_owner(span)))}
    return sorted(inner, key=order.__getitem__)


def _owner(span: Span) -> ir.Graph:
    owner = span.producers[0].graph
    assert isinstance(owner, ir.Graph)
    return owner


def _pads(node: ir.Node) -> bool:
    return any(graph.get_ints(node, "pads") or [])


def _watched(span: Span, inner: Sequence[ir.Node]) -> list[ir.Value]:
    """Outputs of the producers, inputs of the bent functions."""
    values = [node.outputs[0] for node in span.producers]
    values += [
        value for node in inner if node.op_type in BENT for value in node.inputs[:1] if value is not None
    ]
    return list(dict.fromkeys(values))


def _observe(
    model: ir.Model,
    spans: Sequence[tuple[Span, list[ir.Node]]],
    data: Mapping[str, npt.NDArray[Any]],
    make_run: MakeRun | None,
) -> dict[ir.Value, Spread]:
    watched = {value: span for span, inner in spans for value in _watched(span, inner)}
    seen = {value: Spread() for value in watched}
    for values in observe(model, data, [value.name or "" for value in watched], make_run):
        for value, span in watched.items():
            seen[value].update(by_channel(span, values[value.name or ""]))
    return seen


def _absorb(
    model: ir.Model,
    span: Span,
    inner: Sequence[ir.Node],
    layers: Mapping[ir.Node, Layer],
    seen: Mapping[ir.Value, Spread],
) -> None:
    chosen: dict[ir.Value, Float] = {}
    for node in span.producers:
        chosen[node.outputs[0]] = np.zeros(span.channels)
    for node in span.producers:
        source = node.outputs[0]
        reached = _shifts(inner, {source: np.ones(span.channels)})
        so_far = _shifts(inner, chosen)
        bent = [entry for entry in inner if entry.op_type in BENT and entry.inputs[0] in reached]
        if not bent:
            chosen[source] = seen[source].mean
            continue
        room = [
            _room(entry, seen[_input(entry)], so_far[_input(entry)]) / reached[_input(entry)]
            for entry in bent
        ]
        chosen[source] = np.min(room, axis=0)
    shifts = _shifts(inner, chosen)
    for node in span.producers:
        set_layer(model, layers[node], None, get_bias(layers[node]) - chosen[node.outputs[0]])
    for node in span.consumers:
        layer = layers[node]
        weight = by_input(layer, layer.array().astype(np.float64))
        moved = (weight * input_factors(layer, shifts[_input(node)])).sum(axis=(2, 3)).reshape(-1)
        set_layer(model, layer, None, get_bias(layer) + moved)
    rename(model, span)


def _shifts(inner: Sequence[ir.Node], made: Mapping[ir.Value, Float]) -> dict[ir.Value, Float]:
    """What each tensor of the span is lowered by if those that are made are; only tensors that they reach."""
    found = dict(made)
    for node in inner:
        reached = [found[value] for value in node.inputs if value is not None and value in found]
        if reached:
            found[node.outputs[0]] = np.sum(reached, axis=0)
    return found


def _room(node: ir.Node, spread: Spread, shift: Float) -> Float:
    """How much more the input of a bent function may be lowered, so that it stays on its straight part."""
    low, high = 0.0, np.inf
    if node.op_type == "Clip":
        low, high = graph.get_float(node, "min", -np.inf), graph.get_float(node, "max", np.inf)
    room = np.maximum(np.asarray(spread.low) - low - shift, 0.0)
    return np.where((np.asarray(spread.high) <= high) & np.isfinite(room), room, 0.0)


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value
