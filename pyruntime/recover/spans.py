"""Spans: channels that can be rescaled without changing what a network computes.

Between the layers that make a tensor and the layers that read it, operators with `f(x / s) = f(x) / s` for
s > 0 (Relu, pooling, sums of such tensors, ...) let every channel have a scale of its own: dividing the
producers' output channels by `s` and multiplying the consumers' input channels by `s` cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import Layer
from pyruntime.recover.common import get_bias, own_layers, set_layer

Float = npt.NDArray[np.float64]

RESCALED = "_rescaled"
# f(x / s) = f(x) / s, channel by channel; AXIS_1 only where channels are axis 1.
ANY_AXIS = ("Relu", "LeakyRelu", "Clip")
AXIS_1 = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad")


@dataclass(eq=False)
class Span:
    """Channels of the tensors between some layers.

    Attributes:
        channels: number of channels.
        axis: where they stand in a tensor, 1 or -1.
        producers: Conv, Gemm, MatMul and LayerNormalization nodes that make them.
        consumers: Conv, Gemm and MatMul nodes that read them.
        shifts: constants that are added to them: (Add node, position of the constant).
        clips: Clip nodes among them with a finite bound other than 0.
        inputs: the tensors that the consumers read.
        tensors: all of them.
    """

    channels: int = 0
    axis: int = 1
    producers: list[ir.Node] = field(default_factory=list)
    consumers: list[ir.Node] = field(default_factory=list)
    shifts: list[tuple[ir.Node, int]] = field(default_factory=list)
    clips: list[ir.Node] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    tensors: list[ir.Value] = field(default_factory=list)


@dataclass
class _Set:
    """A span while it is being found. `axes`: where its channels stand, 1 or -1; both at once is none."""

    span: Span = field(default_factory=Span)
    axes: set[int] = field(default_factory=set)
    blocked: bool = False


def find_spans(model: ir.Model) -> list[Span]:
    """The spans of a canonical float model, in the order in which their first tensor is made.

    A tensor that something else reads too (an output of the network, a Sigmoid, a Concat, a layer that shares
    its weight) belongs to none.
    """
    finder = _Finder(model)
    for node in graph.topological_nodes(model):
        finder.visit(node)
    for value in (*model.graph.inputs, *model.graph.outputs):
        finder.block(value)
    return list(finder.spans())


class _Finder:
    def __init__(self, model: ir.Model) -> None:
        self._layers = {layer.node: layer for layer in own_layers(model).values()}
        self._sets: dict[ir.Value, _Set] = {}

    def visit(self, node: ir.Node) -> None:
        result = node.outputs[0]
        if node in self._layers and len(node.outputs) == 1:
            self._layer(self._layers[node])
        elif node.op_type == "LayerNormalization" and self._plain_normalization(node):
            self.block(node.inputs[0])
            found = self._set(result)
            found.span.producers.append(node)
            found.axes.add(-1)
        elif self._passes(node):
            self._join(node.inputs[0], result)
            if node.op_type in AXIS_1:
                self._set(result).axes.add(1)
            if node.op_type == "Clip" and self._bounds(node):
                self._set(result).span.clips.append(node)
        elif node.op_type == "Flatten" and graph.get_int(node, "axis", 1) == 1:
            self._join(node.inputs[0], result)
            if graph.rank(node.inputs[0]) != 2:
                self._set(result).axes.add(1)
        elif node.op_type == "Add" and self._sum(node):
            pass
        else:
            for value in (*node.inputs, *node.outputs):
                self.block(value)

    def block(self, value: ir.Value | None) -> None:
        if value is not None and not graph.is_constant(value):
            self._set(value).blocked = True

    def spans(self) -> Iterator[Span]:
        for found in {id(entry): entry for entry in self._sets.values()}.values():
            span = found.span
            if found.blocked or len(found.axes) > 1 or not span.producers or not span.consumers:
                continue
            sizes = {_out_channels(node, self._layers) for node in span.producers}
            if len(sizes) == 1:
                span.channels, span.axis = sizes.pop(), next(iter(found.axes), 1)
                if all(_in_channels(self._layers[node]) % span.channels == 0 for node in span.consumers):
                    yield span

    def _layer(self, layer: Layer) -> None:
        source, result = layer.node.inputs[0], layer.node.outputs[0]
        assert source is not None
        for value, nodes in ((source, "consumers"), (result, "producers")):
            found = self._set(value)
            getattr(found.span, nodes).append(layer.node)
            if layer.node.op_type == "Conv":
                found.axes.add(1)
            elif graph.rank(value) != 2:
                found.axes.add(-1)
        found = self._set(source)
        if source not in found.span.inputs:
            found.span.inputs.append(source)

    def _sum(self, node: ir.Node) -> bool:
        """Take in a sum of two tensors of one shape, or of a tensor and a constant per channel."""
        first, second = node.inputs
        for value, constant, index in ((first, second, 1), (second, first, 0)):
            array = graph.constant(constant)
            if array is not None and value is not None:
                dims = graph.dims(value)
                if array.ndim != 1 or dims is None or dims[-1:] != [array.size]:
                    return False
                self._join(value, node.outputs[0])
                found = self._set(value)
                found.axes.add(-1)
                found.span.shifts.append((node, index))
                return True
        if graph.dims(first) is None or graph.dims(first) != graph.dims(second):
            return False
        self._join(first, node.outputs[0])
        self._join(second, node.outputs[0])
        return True

    def _passes(self, node: ir.Node) -> bool:
        if len([value for value in node.inputs if value is not None]) != 1 or len(node.outputs) != 1:
            return False
        if node.op_type == "Clip":
            return graph.get_float(node, "min", -np.inf) <= 0.0 <= graph.get_float(node, "max", np.inf)
        if node.op_type == "Pad":
            pads = graph.get_ints(node, "pads") or []
            rank = len(pads) // 2
            constant = graph.get_string(node, "mode", "constant") == "constant"
            zero = graph.get_float(node, "value", 0.0) == 0.0
            return (zero or not constant) and rank > 1 and pads[1] == pads[rank + 1] == 0
        return node.op_type in (*ANY_AXIS, *AXIS_1)

    @staticmethod
    def _bounds(node: ir.Node) -> bool:
        bounds = (graph.get_float(node, "min", -np.inf), graph.get_float(node, "max", np.inf))
        return any(np.isfinite(bound) and bound != 0.0 for bound in bounds)

    @staticmethod
    def _plain_normalization(node: ir.Node) -> bool:
        source, rank = node.inputs[0], graph.rank(node.inputs[0])
        affine = [value for value in node.inputs[1:] if value is not None]
        sole = all(graph.is_constant(value) and len(value.uses()) == 1 for value in affine)
        axis = graph.get_int(node, "axis", -1)
        return source is not None and rank is not None and bool(affine) and sole and axis in (-1, rank - 1)

    def _set(self, value: ir.Value) -> _Set:
        if value not in self._sets:
            self._sets[value] = _Set(Span(tensors=[value]))
        return self._sets[value]

    def _join(self, first: ir.Value | None, second: ir.Value | None) -> None:
        assert first is not None and second is not None
        kept, other = self._set(first), self._set(second)
        if kept is other:
            return
        self._sets.update(dict.fromkeys(other.span.tensors, kept))
        for name in ("producers", "consumers", "shifts", "clips", "inputs", "tensors"):
            getattr(kept.span, name).extend(getattr(other.span, name))
        kept.axes |= other.axes
        kept.blocked |= other.blocked


def _out_channels(node: ir.Node, layers: dict[ir.Node, Layer]) -> int:
    if node in layers:
        return layers[node].shape[layers[node].axis]
    array = graph.constant(node.inputs[1])
    return 0 if array is None else int(array.size)


def _in_channels(layer: Layer) -> int:
    return int(layer.array().shape[2]) * layer.groups


def by_channel(span: Span, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of a tensor of the span as `[channels, n]`; after a Flatten a channel has several in a row."""
    return np.ascontiguousarray(np.moveaxis(x, span.axis, 0)).reshape(span.channels, -1)


def by_input(layer: Layer, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[out, taps, in / groups]` as `[groups, out / groups, taps, in / groups]`."""
    return weight.reshape(layer.groups, -1, *weight.shape[1:])


def input_factors(layer: Layer, scale: Float) -> Float:
    """Factor of every weight of `by_input` if input channel c is to be multiplied by `scale[c]`.

    After a Flatten every channel feeds several inputs in a row.
    """
    each = np.repeat(scale, _in_channels(layer) // len(scale))
    return each.reshape(layer.groups, 1, 1, -1)


def rescale(model: ir.Model, span: Span, scale: Float) -> None:
    """Divide the channels of a span by `scale`, in place: the network computes the same.

    The tensors of the span get a new name, since they are no longer those of the network as it was. Bounds of
    Clip nodes stay as they are; that is the caller's to answer for.
    """
    layers = {layer.node: layer for layer in own_layers(model).values()}
    for node in span.producers:
        if node in layers:
            layer = layers[node]
            bias = None if layer.bias is None else get_bias(layer) / scale
            set_layer(model, layer, layer.array() / scale[:, None, None], bias)
        else:
            for index in range(1, len(node.inputs)):
                _multiply_constant(node, index, 1.0 / scale)
    for node, index in span.shifts:
        _multiply_constant(node, index, 1.0 / scale)
    for node in span.consumers:
        layer = layers[node]
        weight = layer.array()
        scaled = by_input(layer, weight) * input_factors(layer, scale)
        set_layer(model, layer, scaled.reshape(weight.shape), None)
    rename(model, span)


def rename(model: ir.Model, span: Span) -> None:
    """Give the tensors of a span names that say that they are no longer those of the float network."""
    for value in span.tensors:
        if not (value.name or "").endswith(RESCALED):
            value.name = graph.unique_name(model, f"{value.name}{RESCALED}")


def _multiply_constant(node: ir.Node, index: int, factor: Float) -> None:
    value = node.inputs[index]
    array = graph.constant(value)
    if value is not None and array is not None:
        scaled = (array * factor).astype(np.float32)
        graph.replace_constant_input(node, index, scaled, f"{value.name}_rescaled")
