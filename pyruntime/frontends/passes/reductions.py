"""Sums along axes -> ReduceMean times what it divided by; the largest of a plane -> GlobalMaxPool."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import add_initializer
from pyruntime.graph.dimensions import ints_of, is_pending, normalize_axis
from pyruntime.graph.nodes import get_int, insert_before, owner, replace_node, topological_nodes
from pyruntime.graph.shapes import dims

# What is summed of x, and what becomes of the sum.
_BEFORE = {"ReduceL1": "Abs", "ReduceL2": "Mul", "ReduceSumSquare": "Mul", "ReduceSum": ""}
_BEHIND = {"ReduceL2": "Sqrt"}


def run(model: ir.Model) -> bool:
    """Rewrite the reductions of float32 whose axes, and sizes along them, are known."""
    changed = False
    for node in topological_nodes(model):
        if node.domain == "" and node.op_type in _BEFORE:
            changed |= _sum(node)
        elif node.domain == "" and node.op_type == "ReduceMax":
            changed |= _maximum(node)
    return changed


def _axes(node: ir.Node) -> list[int] | None:
    """From the front, ascending; None if they or the rank are not known, or the input is not float32."""
    x, shape = node.inputs[0], dims(node.inputs[0])
    if x is None or shape is None or x.dtype != ir.DataType.FLOAT or is_pending(node, "axes", 1):
        return None
    axes = ints_of(node, "axes", 1)
    if not axes:
        return [] if get_int(node, "noop_with_empty_axes", 0) else list(range(len(shape)))
    return sorted(normalize_axis(axis, len(shape), node) for axis in axes)


def _sum(node: ir.Node) -> bool:
    axes, shape = _axes(node), dims(node.inputs[0])
    if axes is None or shape is None:
        return False
    sizes = [shape[axis] for axis in axes]
    count = math.prod(size for size in sizes if isinstance(size, int))
    if any(isinstance(size, str) for size in sizes) or 0 in shape:
        return False
    value = node.inputs[0]
    before = _BEFORE[node.op_type]
    if before:
        value = insert_before(node, before, [value] * (2 if before == "Mul" else 1)).outputs[0]
    if axes:
        settings: dict[str, int | list[int]] = {"axes": axes, "keepdims": get_int(node, "keepdims", 1)}
        mean = insert_before(node, "ReduceMean", [value], settings, name=node.name)
        value = mean.outputs[0]
    if count != 1:
        factor = add_initializer(owner(node), f"{node.name}_count", np.array(count, np.float32))
        value = insert_before(node, "Mul", [value, factor]).outputs[0]
    behind = _BEHIND.get(node.op_type) or ("" if value is not node.inputs[0] else "Identity")
    if behind:
        value = insert_before(node, behind, [value]).outputs[0]
    assert value is not None
    replace_node(node, value)
    return True


def _maximum(node: ir.Node) -> bool:
    axes, shape = _axes(node), dims(node.inputs[0])
    if axes is None or shape is None or len(shape) < 3 or axes != list(range(2, len(shape))):
        return False
    pooled = insert_before(node, "GlobalMaxPool", node.inputs[:1], name=node.name)
    value = pooled.outputs[0]
    if not get_int(node, "keepdims", 1):
        value = insert_before(node, "Squeeze", [value], {"axes": axes}).outputs[0]
    replace_node(node, value)
    return True
