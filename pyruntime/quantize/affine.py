"""Mul and Add of per-channel constants, as a batch norm leaves that nothing could take in: one depthwise
convolution of 1x1, for networks that run on integers.

Two operators on u8 round twice and hold their constants to one scale for all channels, in which small ones
vanish. A depthwise convolution has a scale for each output channel, so its one weight per channel keeps
float32 precision, and it takes half the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.graph.constants import Array
from pyruntime.graph.shapes import Dims
from pyruntime.quantize.assignment import Assignment
from pyruntime.quantize.plan import make_plan


@dataclass(frozen=True, eq=False)
class _Affine:
    """`scale * x + shift` per channel, both `[C]`."""

    mul: ir.Node
    add: ir.Node | None
    rank: int
    scale: Array
    shift: Array

    @property
    def nodes(self) -> list[ir.Node]:
        return [self.mul] if self.add is None else [self.mul, self.add]


def affine_layers(model: ir.Model, assignment: Assignment) -> list[str]:
    """Put depthwise layers, float32 weights `[C, 1, 1]` or `[C, 1, 1, 1]` and biases `[C]`, in the place of
    each Mul and Add of `[N, C, L]` or `[N, C, H, W]` that would run on integers, in place. Returns the names
    of the new layers, which `assignment` does not have.
    """
    found = [affine for node in graph.topological_nodes(model) if (affine := _affine(node)) is not None]
    if not found:
        return []
    planned = make_plan(model, assignment).nodes
    names = [_replace(model, affine) for affine in found if planned.issuperset(affine.nodes)]
    graph.remove_dead_nodes(model)
    return names


def _affine(node: ir.Node) -> _Affine | None:
    if node.domain != "" or node.op_type != "Mul":
        return None
    shape = graph.dims(node.outputs[0])
    if shape is None or len(shape) not in (3, 4):
        return None
    scale = _vector(node, shape)
    if scale is None:
        return None
    add = graph.sole_consumer(node.outputs[0])
    if add is not None and add.domain == "" and add.op_type == "Add":
        shift = _vector(add, shape)
        if shift is not None:
            return _Affine(node, add, len(shape), scale, shift)
    return _Affine(node, None, len(shape), scale, np.zeros_like(scale))


def _operands(node: ir.Node) -> tuple[int, Array | None]:
    """Which of two inputs is computed, and the other one if it is constant."""
    data = 1 if graph.is_constant(node.inputs[0]) else 0
    return data, graph.constant(node.inputs[1 - data])


def _vector(node: ir.Node, shape: Dims) -> Array | None:
    """float32 [C] of the constant that a node adds to or multiplies with every channel."""
    data, constant = _operands(node)
    if constant is None or graph.is_constant(node.inputs[data]) or graph.dims(node.inputs[data]) != shape:
        return None
    vector = graph.per_channel(constant, len(shape), axis=1)
    if vector is None or vector.size == 1 or vector.size != shape[1] or not np.isfinite(vector).all():
        return None
    return vector.astype(np.float32)


def _replace(model: ir.Model, affine: _Affine) -> str:
    name, last = affine.mul.name or "affine", affine.nodes[-1]
    ones = [1] * (affine.rank - 2)
    data, _ = _operands(affine.mul)
    inputs = [
        affine.mul.inputs[data],
        graph.add_initializer(model, f"{name}_weight", affine.scale.reshape(-1, 1, *ones)),
        graph.add_initializer(model, f"{name}_bias", affine.shift),
    ]
    attributes = {"kernel_shape": ones, "strides": ones, "dilations": ones, "pads": [0] * (2 * len(ones))}
    conv = graph.insert_before(
        last, "Conv", inputs, {"group": affine.scale.size, **attributes}, name=f"{name}_affine"
    )
    graph.replace_node(last, conv.outputs[0])
    return conv.name or ""
