"""Expand, and Slice up to a dimension that is known at run time only.

Both become nodes whose settings are attributes. A dimension that has a symbol is read from a network input
with that symbol: the node gets that input as its second (`like`), and `like_axes` says which of its axes
counts.
"""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.dimensions import broadcast
from pyruntime.graph.nodes import (
    get_ints,
    has_attribute,
    insert_before,
    owner,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shape_values import known_ints
from pyruntime.graph.shapes import Dims, dims, ints_of, normalize_axis, rank

_FAR = 1 << 30
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Where", "Cast", "Not", "And", "Or", "Equal", "Sqrt", "Clip"}


def run(model: ir.Model) -> bool:
    """Rewrite every Expand and Slice that can be resolved; drop an Expand that broadcasting replaces."""
    changed = False
    for node in topological_nodes(model):
        if node.graph is None or node.domain != "":
            continue
        if node.op_type == "Expand":
            changed |= _drop(node) or _push_down(node) or _expand(node)
        elif node.op_type == "Slice" and not has_attribute(node, "starts"):
            changed |= _slice(node)
    return changed


def _like(node: ir.Node, symbols: list[str]) -> tuple[ir.Value, list[str | int]] | None:
    """A network input that has all these symbols among its dimensions, and its dimensions."""
    for value in owner(node).inputs:
        shape = dims(value)
        if shape is not None and set(symbols) <= set(shape):
            return value, list(shape)
    return None


def _target(node: ir.Node) -> Dims | None:
    """Dimensions an Expand asks for; 1 where the input has that very dimension."""
    data, target = dims(node.inputs[0]), known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if data is None or target is None:
        return None
    target = list(target)
    for back in range(1, min(len(data), len(target)) + 1):
        if data[-back] == target[-back]:
            target[-back] = 1
    return target


def _expand(node: ir.Node) -> bool:
    if has_attribute(node, "shape"):
        return False
    target = _target(node)
    if target is None:
        return False
    symbols = [dim for dim in target if isinstance(dim, str)]
    if any(isinstance(dim, int) and dim < 0 for dim in target):
        return False
    found = _like(node, symbols) if symbols else None
    if symbols and found is None:
        return False
    set_attribute(node, "shape", [1 if isinstance(dim, str) else dim for dim in target])
    node.resize_inputs(1)
    if found is not None:
        like, shape = found
        axes = [shape.index(dim) if isinstance(dim, str) else -1 for dim in target]
        set_attribute(node, "like_axes", axes)
        node.resize_inputs(2)
        node.replace_input_with(1, like)
    return True


def _drop(node: ir.Node) -> bool:
    """x instead of Expand(x), for readers that broadcast to the same shape without it."""
    source, output = node.inputs[0], node.outputs[0]
    before, after = dims(source), dims(output)
    if source is None or before is None or after is None:
        return False
    if before == after and not output.is_graph_output():
        replace_node(node, source)
        return True
    changed = False
    for use in tuple(output.uses()):
        reader = use.node
        if reader.op_type not in ("Add", "Sub", "Mul", "Div", "Where") or reader.domain != "":
            continue
        others = [source if value is output else value for value in reader.inputs]
        shapes = [dims(value) for value in others]
        known = [shape for shape in shapes if shape is not None]
        wanted = dims(reader.outputs[0])
        if len(known) == len(shapes) and wanted is not None and broadcast(reader, known) == wanted:
            reader.replace_input_with(use.idx, source)
            changed = True
    return changed


def _push_down(node: ir.Node) -> bool:
    """f(Expand(x)) -> Expand(f(x)), where f is element-wise and its other operands are numbers."""
    output, source = node.outputs[0], node.inputs[0]
    changed = False
    for reader in {use.node: None for use in output.uses()}:
        others = [value for value in reader.inputs if value is not output]
        if reader.op_type not in _ELEMENTWISE or reader.domain != "" or not all(map(_is_number, others)):
            continue
        inputs = [source if value is output else value for value in reader.inputs]
        inner = insert_before(reader, reader.op_type, inputs, dict(reader.attributes), name=reader.name)
        inner.outputs[0].type = reader.outputs[0].type
        expand = insert_before(
            reader, "Expand", [inner.outputs[0], *node.inputs[1:]], dict(node.attributes), name=node.name
        )
        replace_node(reader, expand.outputs[0])
        changed = True
    return changed


def _is_number(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and array.ndim <= 1


def _slice(node: ir.Node) -> bool:
    size, starts = rank(node.inputs[0]), ints_of(node, "starts", 1)
    ends = known_ints(node.inputs[2]) if len(node.inputs) > 2 else None
    if size is None or starts is None or ends is None or len(starts) != len(ends):
        return False
    axes = ints_of(node, "axes", 3) or list(range(len(starts)))
    steps = ints_of(node, "steps", 4) or [1] * len(starts)
    axes = [normalize_axis(axis, size, node) for axis in axes]
    data = dims(node.inputs[0]) or []
    ends = [_FAR if end == data[axis] else end for axis, end in zip(axes, ends, strict=True)]
    symbols = [end for end in ends if isinstance(end, str)]
    found = _like(node, symbols)
    if not symbols or found is None or any(step < 1 for step in steps):
        return False
    like, shape = found
    settings = {"starts": starts, "axes": axes, "steps": steps}
    settings["ends"] = [0 if isinstance(end, str) else end for end in ends]
    settings["like_axes"] = [shape.index(end) if isinstance(end, str) else -1 for end in ends]
    for name, entries in settings.items():
        set_attribute(node, name, entries)
    node.resize_inputs(2)
    node.replace_input_with(1, like)
    return True


def expanded(node: ir.Node, data: Dims) -> Dims:
    """Shape that a canonical Expand gives."""
    target: Dims = list(get_ints(node, "shape") or [])
    like = dims(node.inputs[1]) if len(node.inputs) > 1 else None
    for position, axis in enumerate(get_ints(node, "like_axes") or []):
        if axis >= 0 and like is not None:
            target[position] = like[axis]
    return broadcast(node, [data, target])
