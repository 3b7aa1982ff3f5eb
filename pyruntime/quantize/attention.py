"""Attention as one node: the form in which it is quantized.

`fuse_attention` turns MatMul, scale, mask, Softmax, MatMul into a node `Attention` of domain `pyruntime`:

    inputs      q [N, S, heads * d], k [N, T, heads * d], v [N, T, heads * e], optional mask that broadcasts
                to [N, heads, S, T]
    attributes  heads, scale
    output      [N, S, heads * e] = softmax(q k^T * scale + mask) v, head by head

In 8 bits the exponentials are quantized, not their quotients: `graph.attention.expand` writes that out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import graph

# A masked score at most this far down is as good as the lowest one.
_MASKED = -1e4
_SWAP = [0, 2, 1, 3]


@dataclass
class _Core:
    """What stands between q and the product with v."""

    first: ir.Node
    scale: float
    mask: ir.Value | None
    selected: ir.Node | None  # a Where that masks


def fuse_attention(model: ir.Model) -> bool:
    """Fuse every attention of a canonical float model, in place. Returns whether there was one."""
    changed = False
    for node in graph.topological_nodes(model):
        if node.graph is not None and node.op_type == "MatMul" and node.domain == "":
            changed |= _fuse(node)
    if changed:
        graph.remove_dead_nodes(model)
    return changed


def _fuse(second: ir.Node) -> bool:
    weights, value = second.inputs
    shape = graph.dims(second.outputs[0])
    if shape is None or len(shape) != 4 or graph.is_constant(weights) or graph.is_constant(value):
        return False
    softmax = _softmax(weights)
    core = None if softmax is None else _scores(softmax.inputs[0])
    if core is None or not _is_plain(core.first) or not isinstance(shape[1], int):
        return False
    heads = shape[1]
    q, k = core.first.inputs
    inputs = [_sequence(second, q, False), _sequence(second, k, True), _sequence(second, value, False)]
    mask = core.mask
    if core.selected is not None:
        mask = _additive(second, core.selected)
    attention = graph.insert_before(
        second,
        "Attention",
        [*inputs, *([] if mask is None else [mask])],
        {"heads": heads, "scale": core.scale},
        name=second.name,
        domain="pyruntime",
    )
    result = attention.outputs[0]
    joined = None if not isinstance(shape[3], int) else heads * shape[3]
    result.shape = ir.Shape([shape[0], shape[2], f"{result.name}_dim2" if joined is None else joined])
    _replace_result(second, result, shape)
    return True


def _only(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _is_plain(node: ir.Node) -> bool:
    shapes = [graph.dims(value) for value in node.inputs]
    return all(shape is not None and len(shape) == 4 for shape in shapes) and not any(
        graph.is_constant(value) for value in node.inputs
    )


def _softmax(weights: ir.Value | None) -> ir.Node | None:
    """The Softmax over the last axis that makes the weights, also behind a guard against rows of NaN."""
    node = None if weights is None else weights.producer()
    if node is not None and node.op_type == "Where" and _only(weights):
        condition, number, inner = node.inputs
        test = None if condition is None else condition.producer()
        zero = graph.constant(number)
        guards = test is not None and test.op_type == "Sub" and all(v is inner for v in test.inputs)
        if not guards or zero is None or np.any(zero != 0) or inner is None or len(inner.uses()) != 3:
            return None
        node = inner.producer()
    elif not _only(weights):
        return None
    size = None if node is None else graph.rank(node.outputs[0])
    if (
        node is None
        or node.op_type != "Softmax"
        or size != 4
        or graph.get_int(node, "axis", -1) not in (3, -1)
    ):
        return None
    return node


def _scores(value: ir.Value | None) -> _Core | None:
    """[mask] <- [scale] <- MatMul, each read once."""
    core = _Core(None, 1.0, None, None)  # type: ignore[arg-type]  # set below
    while _only(value):
        assert value is not None
        node = value.producer()
        if node is None or node.domain != "":
            return None
        if node.op_type == "MatMul":
            core.first = node
            return core
        if node.op_type in ("Mul", "Div") and (number := _number(node.inputs[1])):
            core.scale *= number if node.op_type == "Mul" else 1.0 / number
            value = node.inputs[0]
        elif node.op_type == "Mul" and (number := _number(node.inputs[0])) is not None:
            core.scale *= number
            value = node.inputs[1]
        elif core.mask is not None or core.selected is not None or core.scale != 1.0:
            return None  # a mask below a scale: scaled too
        elif node.op_type == "Add":
            left = _leads_to_product(node.inputs[0])
            core.mask, value = (node.inputs[1], node.inputs[0]) if left else (node.inputs[0], node.inputs[1])
        elif node.op_type == "Where":
            core.selected = node
            value = node.inputs[1] if _number(node.inputs[2]) is not None else node.inputs[2]
            number = _number(node.inputs[2] if value is node.inputs[1] else node.inputs[1])
            if number is None or number > _MASKED:
                return None
        else:
            return None
    return None


def _leads_to_product(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Mul", "Div"):
        value = node.inputs[1] if graph.is_constant(node.inputs[0]) else node.inputs[0]
        node = None if value is None else value.producer()
    return node is not None and node.op_type == "MatMul" and not graph.is_constant(node.inputs[1])


def _number(value: ir.Value | None) -> float | None:
    array = graph.constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _additive(anchor: ir.Node, where: ir.Node) -> ir.Value:
    """Where(c, scores, low) as a mask to add: Where(c, 0, low)."""
    model = anchor.graph
    assert isinstance(model, ir.Graph)
    zero = graph.add_initializer(model, f"{where.name}_zero", np.asarray(0, np.float32))
    scores = 1 if _number(where.inputs[2]) is not None else 2
    inputs = [zero if index == scores else value for index, value in enumerate(where.inputs)]
    mask = graph.insert_before(anchor, "Where", inputs, name=where.name).outputs[0]
    condition = where.inputs[0]
    mask.shape = None if condition is None else condition.shape
    mask.type = ir.TensorType(ir.DataType.FLOAT)
    return mask


def _sequence(anchor: ir.Node, value: ir.Value | None, transposed: bool) -> ir.Value:
    """[N, S, heads * d] of an operand [N, heads, S, d], or of [N, heads, d, S] if it is transposed."""
    assert value is not None
    shape = graph.dims(value)
    assert shape is not None
    perm = [0, 1, 3, 2] if transposed else [0, 1, 2, 3]  # axes of `value` that make [N, heads, S, d]
    source, axes = value, [perm[axis] for axis in _SWAP]  # ... that make [N, S, heads, d]
    while (node := source.producer()) is not None and node.op_type == "Transpose":
        inner = graph.get_ints(node, "perm") or []
        axes = [inner[axis] for axis in axes]
        assert node.inputs[0] is not None
        source = node.inputs[0]
    if axes == [0, 1, 2, 3] and node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        before, after = graph.dims(node.inputs[0]), graph.dims(source)
        if before is not None and after is not None and before == [*after[:2], _joined(after)]:
            return node.inputs[0]
    moved = source
    if axes != [0, 1, 2, 3]:
        moved = graph.insert_before(anchor, "Transpose", [source], {"perm": axes}).outputs[0]
        moved.shape = ir.Shape([shape[perm[axis]] for axis in _SWAP])
        moved.type = ir.TensorType(ir.DataType.FLOAT)
    order = [shape[perm[axis]] for axis in _SWAP]
    joined = graph.insert_before(anchor, "Reshape", [moved], {"shape": [0, 0, -1], "allowzero": 0})
    joined.outputs[0].shape = ir.Shape([order[0], order[1], _joined(order) or f"{value.name}_joined"])
    joined.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return joined.outputs[0]


def _joined(shape: list[int | str] | None) -> int | None:
    if shape is None or not isinstance(shape[2], int) or not isinstance(shape[3], int):
        return None
    return shape[2] * shape[3]


def _replace_result(second: ir.Node, result: ir.Value, shape: list[int | str]) -> None:
    """The result in place of Reshape(Transpose(product)); if those are not there, split into heads again."""
    output = second.outputs[0]
    transpose = graph.sole_consumer(output)
    if (
        transpose is not None
        and transpose.op_type == "Transpose"
        and graph.get_ints(transpose, "perm") == _SWAP
    ):
        reshape = graph.sole_consumer(transpose.outputs[0])
        wanted = None if reshape is None else graph.dims(reshape.outputs[0])
        if reshape is not None and reshape.op_type == "Reshape" and wanted == graph.dims(result):
            graph.replace_node(reshape, result)
            return
    split = graph.insert_before(
        second, "Reshape", [result], {"shape": [0, 0, int(shape[1]), -1], "allowzero": 0}
    )
    split.outputs[0].shape = ir.Shape([shape[0], shape[2], shape[1], shape[3]])
    split.outputs[0].type = output.type
    result.type = output.type
    heads = graph.insert_before(second, "Transpose", split.outputs, {"perm": _SWAP})
    graph.replace_node(second, heads.outputs[0])
