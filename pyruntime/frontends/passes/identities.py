"""Nodes that change nothing: Identity, Dropout at inference, casts between floats, one-input Concat."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import get_int, get_ints, owner, replace_value, topological_nodes
from pyruntime.graph.shapes import dims

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def run(model: ir.Model) -> bool:
    """Let readers of such a node read its input.

    An Identity from a graph input or constant to an output stays.
    """
    changed = False
    for node in topological_nodes(model):
        source = node.inputs[0] if node.inputs else None
        if node.domain not in ("", "ai.onnx") or source is None or not _changes_nothing(node):
            continue
        output = node.outputs[0]
        if any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
            continue
        keep = output.is_graph_output() and (source.producer() is None or source.is_graph_output())
        if keep and node.op_type == "Identity":
            continue
        replace_value(output, source)
        if not output.uses() and not output.is_graph_output():
            owner(node).remove(node, safe=True)
        changed = True
    return changed


def _changes_nothing(node: ir.Node) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        training = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else False
        return training is not None and not bool(training)
    if node.op_type == "Cast":
        kind = ir.DataType(get_int(node, "to", 0))
        source = node.inputs[0]
        return source is not None and (source.dtype == kind or (kind in _FLOATS and source.dtype in _FLOATS))
    if node.op_type in ("Concat", "Sum", "Max", "Min", "Mean"):
        return len(node.inputs) == 1
    if node.op_type == "Transpose":
        perm = get_ints(node, "perm")
        return perm is not None and perm == list(range(len(perm)))
    if node.op_type == "Pad":
        pads = get_ints(node, "pads")
        return pads is not None and not any(pads)
    if node.op_type == "Reshape":
        before, after = dims(node.inputs[0]), dims(node.outputs[0])
        shape = get_ints(node, "shape")
        return shape is not None and before is not None and before == after
    return False
