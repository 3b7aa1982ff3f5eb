"""Sums along axes -> ReduceMean times what it divided by; the largest of a plane -> GlobalMaxPool."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import add_initializer
from pyruntime.graph.dimensions import Dims, reduced_axes
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


def _reduced(node: ir.Node) -> tuple[list[int], Dims] | None:
    """Axes and shape of the input; None if they are not known, or it is not float32 or empty."""
    x, shape = node.inputs[0], dims(node.inputs[0])
    if x is None or shape is None or 0 in shape or x.dtype != ir.DataType.FLOAT:
        return None
    axes = reduced_axes(node, len(shape))
    return None if axes is None else (axes, shape)


def _sum(node: ir.Node) -> bool:
    found = _reduced(node)
    if found is None:
        return False
    axes, shape = found
    sizes = [size for axis in axes if isinstance(size := shape[axis], int)]
    if len(sizes) < len(axes):
        return False
    count = math.prod(sizes)
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
    found = _reduced(node)
    if found is None or len(found[1]) < 3 or found[0] != list(range(2, len(found[1]))):
        return False
    pooled = insert_before(node, "GlobalMaxPool", node.inputs[:1], name=node.name)
    value = pooled.outputs[0]
    if not get_int(node, "keepdims", 1):
        value = insert_before(node, "Squeeze", [value], {"axes": found[0]}).outputs[0]
    replace_node(node, value)
    return True
