"""InstanceNormalization and GroupNormalization -> LayerNormalization of flattened groups, Mul and Add."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    insert_before,
    label,
    owner,
    replace_node,
    topological_nodes,
)
from pyruntime.graph.shapes import dims


def run(model: ir.Model) -> bool:
    """Rewrite those whose channels and planes have known sizes, and whose scale and bias are constant."""
    changed = False
    for node in topological_nodes(model):
        if node.domain == "" and node.op_type in ("InstanceNormalization", "GroupNormalization"):
            changed |= _rewrite(node)
    return changed


def _rewrite(node: ir.Node) -> bool:
    shape, affine = dims(node.inputs[0]), [constant(value) for value in node.inputs[1:3]]
    if shape is None or len(shape) < 3 or len(affine) < 2:
        return False
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if len(sizes) < len(shape) - 1:
        return False
    channels = sizes[0]
    groups = channels if node.op_type == "InstanceNormalization" else get_int(node, "num_groups", 1)
    if groups < 1 or channels % groups:
        raise ModelError(f"node {label(node)}: {channels} channels in {groups} groups; correct the model")
    factors = [_per_channel(array, channels) for array in affine]
    scale, bias = factors
    if scale is None or bias is None:
        return False
    graph, size = owner(node), math.prod(sizes) // groups
    ones = add_initializer(graph, f"{node.name}_ones", np.ones(size, np.float32))
    zeros = add_initializer(graph, f"{node.name}_zeros", np.zeros(size, np.float32))
    flat = insert_before(node, "Reshape", node.inputs[:1], {"shape": [0, groups, -1], "allowzero": 0})
    attributes = {"axis": 2, "epsilon": get_float(node, "epsilon", 1e-5)}
    inputs = [flat.outputs[0], ones, zeros]
    normal = insert_before(node, "LayerNormalization", inputs, attributes, name=node.name)
    back = insert_before(node, "Reshape", normal.outputs, {"shape": [0, *sizes], "allowzero": 0})
    value = back.outputs[0]
    form = [1, channels] + [1] * (len(sizes) - 1)
    for op_type, array, neutral in (("Mul", scale, 1.0), ("Add", bias, 0.0)):
        if np.any(array != neutral):
            operand = add_initializer(graph, f"{node.name}_{op_type}", array.reshape(form))
            value = insert_before(node, op_type, [value, operand]).outputs[0]
    replace_node(node, value)
    return True


def _per_channel(array: Array | None, channels: int) -> Array | None:
    """Values of groups (GroupNormalization of opset 18) or channels, for every channel."""
    if array is None or array.size == 0 or channels % array.size:
        return None
    return np.repeat(array.reshape(-1).astype(np.float32), channels // array.size)
