"""Mul and Add of per-channel constants, as a batch norm leaves that nothing could take in: one depthwise
convolution of 1x1, for networks that run on integers.

Two operators on u8 round twice and hold their constants to one scale for all channels, which trained batch
norms seldom stand: they would run in float32. A depthwise convolution has a scale for each output channel, so
its one weight per channel is exact, and it takes half the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.graph.constants import Array
from pyruntime.quantize.assignment import Assignment
from pyruntime.quantize.plan import make_plan


@dataclass(frozen=True, eq=False)
class _Affine:
    """`scale * data + shift` per channel, of an image or a sequence of channels."""

    mul: ir.Node
    add: ir.Node | None
    data: ir.Value
    scale: Array
    shift: Array

    @property
    def last(self) -> ir.Node:
        return self.add or self.mul

    @property
    def nodes(self) -> list[ir.Node]:
        return [self.mul] if self.add is None else [self.mul, self.add]


def affine_layers(model: ir.Model, assignment: Assignment) -> list[str]:
    """Put depthwise layers in the place of what would run on integers between integer operators, if u8 could
    hold its constants. Returns the names of the new layers.
    """
    found = [affine for node in graph.topological_nodes(model) if (affine := _affine(node)) is not None]
    if not found:
        return []
    trial = graph.clone(model)
    same = {node.name: node for node in trial.graph}
    for affine in found:
        for node in affine.nodes:
            index = _constant_index(node)
            assert index is not None and node.inputs[index] is not None
            array = graph.constant(node.inputs[index])
            assert array is not None
            graph.replace_constant_input(same[node.name], index, np.ones_like(array))
    planned = {node.name for node in make_plan(trial, assignment).nodes}
    chosen = [affine for affine in found if all(node.name in planned for node in affine.nodes)]
    names = [_replace(model, affine) for affine in chosen]
    graph.remove_dead_nodes(model)
    return names


def _affine(node: ir.Node) -> _Affine | None:
    if node.domain != "" or node.op_type != "Mul":
        return None
    index = _constant_index(node)
    data = None if index is None else node.inputs[1 - index]
    shape = graph.dims(data)
    if index is None or data is None or shape is None or len(shape) not in (3, 4):
        return None
    channels = shape[1]
    scale = _per_channel(node.inputs[index], len(shape), channels)
    if scale is None:
        return None
    shift, add = np.zeros_like(scale), graph.sole_consumer(node.outputs[0])
    if add is not None and add.domain == "" and add.op_type == "Add":
        index = _constant_index(add)
        found = None if index is None else _per_channel(add.inputs[index], len(shape), channels)
        if found is not None:
            return _Affine(node, add, data, scale, found)
    return _Affine(node, None, data, scale, shift)


def _constant_index(node: ir.Node) -> int | None:
    """Which of two inputs is the constant one."""
    constant = [graph.is_constant(value) for value in node.inputs]
    return constant.index(True) if sorted(constant) == [False, True] else None


def _per_channel(value: ir.Value | None, rank: int, channels: int | str | None) -> Array | None:
    """float32 [C] of a constant with one number for each channel."""
    array = graph.constant(value)
    if array is None or array.dtype != np.float32 or not isinstance(channels, int) or channels < 2:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or array.size != channels or shape[1] != channels:
        return None
    vector = array.reshape(-1)
    return vector if np.isfinite(vector).all() else None


def _replace(model: ir.Model, affine: _Affine) -> str:
    rank = len(graph.dims(affine.data) or ())
    channels, name = affine.scale.size, affine.mul.name or "affine"
    weight = affine.scale.reshape([channels] + [1] * (rank - 1)).astype(np.float32)
    index = _constant_index(affine.mul)
    assert index is not None
    inputs = [
        affine.mul.inputs[1 - index],  # not what was found: it may be that of a layer made since
        graph.add_initializer(model, f"{name}_weight", weight),
        graph.add_initializer(model, f"{name}_bias", affine.shift.astype(np.float32)),
    ]
    last = affine.last
    ones = [1] * (rank - 2)
    attributes = {"kernel_shape": ones, "strides": ones, "dilations": ones, "pads": [0] * (2 * rank - 4)}
    conv = graph.insert_before(last, "Conv", inputs, {"group": channels, **attributes}, name=f"{name}_affine")
    graph.replace_node(last, conv.outputs[0])
    return conv.name or ""
