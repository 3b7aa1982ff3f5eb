"""Products of two computed tensors, as attention spells them.

Numbers that scale an operand scale the product instead, as one Mul behind it; a transposition of the last two
axes that is spelled Reshape, Transpose, Reshape is one Transpose.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import add_initializer, constant, is_constant
from pyruntime.graph.nodes import (
    get_ints,
    insert_after,
    insert_before,
    owner,
    replace_node,
    replace_value,
    sole_consumer,
    topological_nodes,
)
from pyruntime.graph.shapes import dims, rank

_MOVEMENT = ("Transpose", "Reshape")


def run(model: ir.Model) -> bool:
    """Both rewrites, everywhere."""
    changed = False
    for node in topological_nodes(model):
        if node.graph is None or node.domain != "":
            continue
        if node.op_type == "Transpose":
            changed |= _join_reshapes(node)
        elif node.op_type == "MatMul" and not any(is_constant(value) for value in node.inputs):
            changed |= _move_factors(node)
    return changed


def _move_factors(product: ir.Node) -> bool:
    factor, scales = 1.0, []
    for value in product.inputs:
        scale = _scale_of(value)
        if scale is not None:
            factor *= _factor(scale)
            scales.append(scale)
    if not scales:
        return False
    for scale in scales:
        data = scale.inputs[_data_of(scale)]
        assert data is not None
        replace_node(scale, data)
    output = product.outputs[0]
    following = sole_consumer(output)
    if following is not None and _is_scale(following) and following.inputs[_data_of(following)] is output:
        factor *= _factor(following)
        replace_node(following, output)
    number = add_initializer(owner(product), f"{product.name}_factor", np.asarray(factor, np.float32))
    scaled = insert_after(product, "Mul", [output, number], name=f"{product.name}_scale")
    scaled.outputs[0].shape, scaled.outputs[0].type = output.shape, output.type
    replace_value(output, scaled.outputs[0])
    scaled.replace_input_with(0, output)
    return True


def _scale_of(value: ir.Value | None) -> ir.Node | None:
    """The Mul or Div by a number that scales an operand and nothing else, above any movement."""
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None or node.domain != "":
            return None
        if _is_scale(node):
            return node
        if node.op_type not in _MOVEMENT:
            return None
        value = node.inputs[0]
    return None


def _is_scale(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in ("Mul", "Div") or node.outputs[0].is_graph_output():
        return False
    index = _data_of(node)
    array, data = constant(node.inputs[1 - index]), node.inputs[index]
    if array is None or array.size != 1 or is_constant(data) or array.ndim > (rank(data) or 0):
        return False
    number = float(array.reshape(()))
    return bool(np.isfinite(number)) and number != 0 and (node.op_type == "Mul" or index == 0)


def _data_of(node: ir.Node) -> int:
    return 1 if is_constant(node.inputs[0]) else 0


def _factor(node: ir.Node) -> float:
    array = constant(node.inputs[1 - _data_of(node)])
    assert array is not None
    number = float(array.reshape(()))
    return number if node.op_type == "Mul" else 1.0 / number


def _join_reshapes(transpose: ir.Node) -> bool:
    """[a, b, c, d] -> [a * b, c, d] -> [a * b, d, c] -> [a, b, d, c]."""
    first = None if transpose.inputs[0] is None else transpose.inputs[0].producer()
    last = sole_consumer(transpose.outputs[0])
    if first is None or last is None or first.op_type != "Reshape" or last.op_type != "Reshape":
        return False
    before, between, after = dims(first.inputs[0]), dims(first.outputs[0]), dims(last.outputs[0])
    if before is None or between is None or after is None or get_ints(transpose, "perm") != [0, 2, 1]:
        return False
    if len(before) != 4 or between[1:] != before[2:] or after != [*before[:2], before[3], before[2]]:
        return False
    joined = insert_before(last, "Transpose", first.inputs[:1], {"perm": [0, 1, 3, 2]}, name=transpose.name)
    replace_node(last, joined.outputs[0])
    return True
