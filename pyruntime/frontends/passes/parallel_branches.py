"""Convolutions of one input whose outputs are added -> one Conv.

Networks made of parallel branches for training (RepVGG, Ding et al. 2021, section 3.3; MobileOne) compute the
sum of linear maps, which is linear: kernels are added, smaller ones within the larger, and a branch that only
scales its input is a kernel of one tap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import Array, constant, replace_constant_input
from pyruntime.graph.nodes import get_int, get_ints, replace_node, sole_consumer, topological_nodes
from pyruntime.graph.shapes import dims


@dataclass(frozen=True)
class _Branch:
    """float32 `weight [O, C/group, k...]` and `bias [O]`, applied to x with these pads (begins, ends)."""

    x: ir.Value
    weight: Array
    bias: Array
    pads: tuple[int, ...]


def run(model: ir.Model) -> bool:
    """Merge the two operands of every Add for which it is possible."""
    changed = False
    for node in topological_nodes(model):
        if node.op_type == "Add" and node.domain == "" and len(node.inputs) == 2:
            changed |= _merge(node, *node.inputs) or _merge(node, *reversed(node.inputs))
    return changed


def _merge(node: ir.Node, kept: ir.Value | None, other: ir.Value | None) -> bool:
    """Put `other` into the Conv that makes `kept`."""
    conv = None if kept is None else kept.producer()
    if conv is None or kept is None or other is None or kept is other:
        return False
    shape = dims(kept)
    first = _convolution(conv, node)
    second = None if first is None else _second(conv, first, other, node)
    if first is None or second is None or second.x is not first.x or shape is None or dims(other) != shape:
        return False
    within = _within(first, second, get_ints(conv, "dilations") or [])
    if within is None:
        return False
    replace_constant_input(conv, 1, first.weight + within)
    replace_constant_input(conv, 2, first.bias + second.bias, f"{conv.name}_bias")
    replace_node(node, kept)
    return True


def _convolution(conv: ir.Node, reader: ir.Node) -> _Branch | None:
    """A float Conv that nothing but `reader` reads."""
    if conv.op_type != "Conv" or conv.domain != "" or sole_consumer(conv.outputs[0]) is not reader:
        return None
    x, weight, pads = conv.inputs[0], constant(conv.inputs[1]), get_ints(conv, "pads")
    if x is None or weight is None or weight.dtype != np.float32 or pads is None:
        return None
    bias: Array | None = np.zeros(len(weight), np.float32)
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        bias = constant(conv.inputs[2])
    return None if bias is None else _Branch(x, weight, bias, tuple(pads))


def _second(conv: ir.Node, first: _Branch, other: ir.Value, reader: ir.Node) -> _Branch | None:
    """The branch that makes `other`, as a convolution with the strides, dilations and groups of `conv`."""
    made_by = other.producer()
    if made_by is None:
        return None
    second = _convolution(made_by, reader)
    if second is None:
        return _scaled(conv, first, made_by, reader)
    one_tap = all(taps == 1 for taps in second.weight.shape[2:])
    for name in ("strides",) if one_tap else ("strides", "dilations"):
        if get_ints(made_by, name) != get_ints(conv, name):
            return None
    same_groups = get_int(made_by, "group", 1) == get_int(conv, "group", 1)
    return second if same_groups and second.weight.shape[:2] == first.weight.shape[:2] else None


def _scaled(conv: ir.Node, first: _Branch, node: ir.Node, reader: ir.Node) -> _Branch | None:
    """`scale * x + shift` per channel, as a normalization without a convolution before it."""
    channels, per_group = first.weight.shape[:2]
    rank = first.weight.ndim
    if channels != per_group * get_int(conv, "group", 1) or set(get_ints(conv, "strides") or []) != {1}:
        return None
    shift: Array | None = np.zeros(channels, np.float32)
    if node.op_type == "Add" and node.domain == "":
        value, shift = _operands(node, channels, rank)
        product = None if value is None or shift is None else value.producer()
        if product is None or sole_consumer(node.outputs[0]) is not reader:
            return None
        node, reader = product, node
    if node.op_type != "Mul" or node.domain != "" or sole_consumer(node.outputs[0]) is not reader:
        return None
    x, scale = _operands(node, channels, rank)
    if x is None or scale is None or shift is None:
        return None
    weight = np.zeros((channels, per_group, *([1] * (rank - 2))), np.float32)
    index = np.arange(channels)
    weight[index, index % per_group] = scale.reshape(-1, *([1] * (rank - 2)))
    return _Branch(x, weight, shift, (0,) * (2 * (rank - 2)))


def _operands(node: ir.Node, channels: int, rank: int) -> tuple[ir.Value | None, Array | None]:
    """(the computed operand, the constant one as a value per channel) of an Add or Mul."""
    for value, other in (node.inputs, reversed(node.inputs)):
        array = constant(other)
        if array is None or array.dtype != np.float32:
            continue
        if array.size == 1 or array.shape[-(rank - 1) :] == (channels, *([1] * (rank - 2))):
            return value, np.broadcast_to(array.reshape(-1), (channels,))
    return None, None


def _within(first: _Branch, second: _Branch, dilations: list[int]) -> Array | None:
    """The kernel of `second` at its place within that of `first`; None if it does not fit."""
    where = [slice(None), slice(None)]
    for axis, dilation in enumerate(dilations):
        size, taps = first.weight.shape[2 + axis], second.weight.shape[2 + axis]
        offset, rest = divmod(first.pads[axis] - second.pads[axis], dilation)
        if rest or offset < 0 or offset + taps > size:
            return None
        where.append(slice(offset, offset + taps))
    within = np.zeros_like(first.weight)
    within[tuple(where)] = second.weight
    return within
