"""LayerNormalization, as one node or spelled out in ReduceMean, Sub, Mul, Sqrt, Div -> one canonical node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import Array, add_initializer, constant, is_constant
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    get_ints,
    insert_before,
    owner,
    replace_node,
    set_attribute,
    sole_consumer,
    topological_nodes,
)
from pyruntime.graph.shapes import dims, normalize_axis, rank


def run(model: ir.Model) -> bool:
    """Write out the settings of every LayerNormalization; fuse the spelled-out ones."""
    changed = False
    for node in topological_nodes(model):
        if node.graph is None or node.domain != "":
            continue
        if node.op_type == "LayerNormalization":
            changed |= _settings(node)
        elif node.op_type in ("Div", "Mul"):
            changed |= _fuse(node)
    return changed


def _settings(node: ir.Node) -> bool:
    """axis from the front, epsilon, scale and bias with one entry per normalized value."""
    shape = dims(node.inputs[0])
    if shape is None:
        return False
    axis = normalize_axis(get_int(node, "axis", -1), len(shape), node)
    changed = set_attribute(node, "axis", axis)
    changed |= set_attribute(node, "epsilon", get_float(node, "epsilon", 1e-5))
    changed |= set_attribute(node, "stash_type", None)
    normalized = shape[axis:]
    if len(node.inputs) == 3 and node.inputs[2] is None:
        node.resize_inputs(2)
        changed = True
    for index in range(1, len(node.inputs)):
        array = constant(node.inputs[index])
        if array is None or any(isinstance(dim, str) for dim in normalized):
            continue
        full = [int(dim) for dim in normalized]
        if list(array.shape) != full:
            spread = np.ascontiguousarray(np.broadcast_to(array, full))
            node.replace_input_with(index, add_initializer(owner(node), f"{node.name}_{index}", spread))
            changed = True
    return changed


def _fuse(node: ir.Node) -> bool:
    """(x - mean) / sqrt(variance + epsilon), then * scale, + bias where nothing else reads the result."""
    found = _normalized(node)
    if found is None:
        return False
    x, epsilon = found
    shape = dims(x)
    if shape is None or not isinstance(shape[-1], int):
        return False
    size, last = shape[-1], node
    scale, bias = np.ones(size, np.float32), np.zeros(size, np.float32)
    for op_type in ("Mul", "Add"):
        reader = sole_consumer(last.outputs[0])
        array = None if reader is None else _row(reader, op_type, last.outputs[0], size)
        if reader is None or array is None:
            continue
        scale, bias = (array, bias) if op_type == "Mul" else (scale, array)
        last = reader
    graph = owner(node)
    inputs = [
        x,
        add_initializer(graph, f"{node.name}_scale", scale),
        add_initializer(graph, f"{node.name}_bias", bias),
    ]
    attributes = {"axis": len(shape) - 1, "epsilon": epsilon}
    fused = insert_before(last, "LayerNormalization", inputs, attributes, name=node.name)
    replace_node(last, fused.outputs[0])
    return True


def _row(node: ir.Node, op_type: str, data: ir.Value, size: int) -> Array | None:
    """The constant operand of a Mul or Add as a row of `size` values."""
    if node.op_type != op_type or node.domain != "":
        return None
    other = node.inputs[1] if node.inputs[0] is data else node.inputs[0]
    array = constant(other)
    if array is None or array.ndim > (rank(data) or 0) or array.size not in (1, size):
        return None
    if array.size == size and size > 1 and array.shape[-1] != size:
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (size,)), np.float32)


def _normalized(node: ir.Node) -> tuple[ir.Value, float] | None:
    """(x, epsilon) if the node makes deviation / sqrt(variance + epsilon) along the last axis."""
    numerator, denominator = node.inputs
    if node.op_type == "Mul":
        for left, right in (node.inputs, reversed(node.inputs)):
            made_by = None if right is None else right.producer()
            if made_by is not None and made_by.op_type == "Div" and _number(made_by.inputs[0]) == 1.0:
                numerator, denominator = left, made_by.inputs[1]
    x = _deviation(numerator)
    root = None if denominator is None else denominator.producer()
    if x is None or root is None or root.op_type != "Sqrt" or root.inputs[0] is None:
        return None
    total = root.inputs[0].producer()
    if total is None or total.op_type != "Add":
        return None
    for variance, epsilon in (total.inputs, reversed(total.inputs)):
        number = _number(epsilon)
        squares = _mean_of(variance)
        product = None if squares is None else squares.producer()
        if number is None or product is None or product.op_type != "Mul":
            continue
        if all(_deviation(value) is x for value in product.inputs):
            return x, number
    return None


def _deviation(value: ir.Value | None) -> ir.Value | None:
    """x if the value is x - mean(x) along the last axis."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Sub":
        return None
    x = node.inputs[0]
    return x if x is not None and _mean_of(node.inputs[1]) is x else None


def _mean_of(value: ir.Value | None) -> ir.Value | None:
    """x if the value is its mean along the last axis, which stays as 1."""
    node = None if value is None else value.producer()
    if node is None or node.inputs[0] is None:
        return None
    size = rank(node.inputs[0])
    if node.op_type == "GlobalAveragePool":  # what a ReduceMean over the last of three axes has become
        return node.inputs[0] if size == 3 else None
    if node.op_type != "ReduceMean" or not get_int(node, "keepdims", 1) or size is None:
        return None
    return node.inputs[0] if get_ints(node, "axes") in ([size - 1], [-1]) else None


def _number(value: ir.Value | None) -> float | None:
    array = constant(value) if is_constant(value) else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None
