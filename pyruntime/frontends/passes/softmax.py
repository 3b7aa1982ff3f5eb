"""Softmax of all opsets -> Softmax over one axis."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.nodes import (
    get_int,
    insert_before,
    label,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shapes import dims, normalize_axis, numbers_of, rank

# Mark of a Softmax whose axis already has the meaning of opset 13.
_LAST_AXIS = "pyruntime_softmax_13"


def run(model: ir.Model) -> bool:
    """Give every Softmax the meaning of opset 13 and an axis counted from the front."""
    opset = model.opset_imports.get("", 1)
    changed = False
    for node in topological_nodes(model):
        if node.op_type == "Softmax" and node.domain == "":
            changed |= _softmax(node, opset)
    return changed


def _softmax(node: ir.Node, opset: int) -> bool:
    """Before opset 13 Softmax flattened its input to a matrix at `axis` (default 1)."""
    size = rank(node.inputs[0])
    if size is None:
        return False
    if opset >= 13 or _LAST_AXIS in node.meta:
        return set_attribute(node, "axis", normalize_axis(get_int(node, "axis", -1), size, node))
    axis = normalize_axis(get_int(node, "axis", 1), size, node)
    shape = dims(node.inputs[0])
    assert shape is not None
    if all(dim == 1 for dim in shape[axis + 1 :]):
        node.meta[_LAST_AXIS] = True
        set_attribute(node, "axis", axis)
        return True
    if len(numbers_of(shape)) < size - 1:
        raise ModelError(
            f"node {label(node)}: Softmax over several axes of the shape {shape}; fix all but one of "
            f"its dimensions"
        )
    flat = insert_before(node, "Flatten", node.inputs[:1], {"axis": axis})
    soft = insert_before(node, "Softmax", flat.outputs, {"axis": 1}, name=node.name)
    soft.meta[_LAST_AXIS] = True
    sizes = [-1 if isinstance(dim, str) else dim for dim in shape]
    back = insert_before(node, "Reshape", soft.outputs, {"shape": sizes, "allowzero": 0})
    replace_node(node, back.outputs[0])
    return True
