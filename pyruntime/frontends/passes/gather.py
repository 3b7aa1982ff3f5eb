"""Data movement in other words: Gather by constant indices, SpaceToDepth and DepthToSpace."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import (
    get_int,
    get_string,
    insert_before,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shapes import Dims, dims, normalize_axis, rank

# A longer list of separate runs would be a table look-up, not a reordering of channels.
_MOST_RUNS = 64
_FAR = 1 << 30  # beyond any dimension


def run(model: ir.Model) -> bool:
    """Gather -> Slice and Concat; SpaceToDepth, DepthToSpace -> Reshape, Transpose, Reshape."""
    changed = False
    for node in topological_nodes(model):
        if node.domain != "":
            continue
        if node.op_type == "Gather":
            changed |= _gather(node)
        elif node.op_type in ("SpaceToDepth", "DepthToSpace"):
            changed |= _rearrange(node)
    return changed


def _gather(node: ir.Node) -> bool:
    indices, data = constant(node.inputs[1]), dims(node.inputs[0])
    if data is None:
        return False
    axis = normalize_axis(get_int(node, "axis", 0), len(data), node)
    changed = set_attribute(node, "axis", axis)
    if indices is None or indices.ndim > 1 or indices.size == 0:
        return changed
    size = data[axis]
    if not isinstance(size, int):
        return _one_of_many(node, axis, int(indices.reshape(-1)[0])) if indices.size == 1 else changed
    runs = _runs([int(index) + (size if index < 0 else 0) for index in indices.reshape(-1)])
    if len(runs) > _MOST_RUNS or runs[0][0] < 0:
        return changed
    parts = []
    for start, end in runs:
        attributes = {"starts": [start], "ends": [end], "axes": [axis], "steps": [1]}
        parts.append(insert_before(node, "Slice", node.inputs[:1], attributes, name=node.name).outputs[0])
    result = parts[0]
    if len(parts) > 1:
        result = insert_before(node, "Concat", parts, {"axis": axis}, name=node.name).outputs[0]
    if indices.ndim == 0:
        result = insert_before(node, "Squeeze", [result], {"axes": [axis]}, name=node.name).outputs[0]
    replace_node(node, result)
    return True


def _one_of_many(node: ir.Node, axis: int, index: int) -> bool:
    """One entry of an axis of unknown size."""
    attributes = {
        "starts": [index],
        "ends": [_FAR if index == -1 else index + 1],
        "axes": [axis],
        "steps": [1],
    }
    result = insert_before(node, "Slice", node.inputs[:1], attributes, name=node.name).outputs[0]
    result.shape, result.type = _with_one(node, axis), node.outputs[0].type
    if rank(node.inputs[1]) == 0:
        result = insert_before(node, "Squeeze", [result], {"axes": [axis]}, name=node.name).outputs[0]
    replace_node(node, result)
    return True


def _with_one(node: ir.Node, axis: int) -> ir.Shape:
    shape = dims(node.inputs[0])
    assert shape is not None
    return ir.Shape([*shape[:axis], 1, *shape[axis + 1 :]])


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Ranges (start, end) of consecutive indices, in order."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _rearrange(node: ir.Node) -> bool:
    data = dims(node.inputs[0])
    block = get_int(node, "blocksize", 1)
    if (
        data is None
        or len(data) != 4
        or not all(isinstance(dim, int) for dim in data[1:])
        or rank(node.inputs[0]) != 4
    ):
        return False
    channels, height, width = (int(dim) for dim in data[1:])
    if node.op_type == "SpaceToDepth":
        first = [channels, height // block, block, width // block, block]
        last = [channels * block * block, height // block, width // block]
        perm = [0, 3, 5, 1, 2, 4] if get_string(node, "mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    else:
        depth = channels // (block * block)
        last = [depth, height * block, width * block]
        if get_string(node, "mode", "DCR") == "DCR":
            first, perm = [block, block, depth, height, width], [0, 3, 4, 1, 5, 2]
        else:
            first, perm = [depth, block, block, height, width], [0, 1, 4, 2, 5, 3]
    batch = _batch(data)
    split = insert_before(node, "Reshape", node.inputs[:1], {"shape": [batch, *first], "allowzero": 0})
    moved = insert_before(node, "Transpose", split.outputs, {"perm": perm})
    joined = insert_before(
        node, "Reshape", moved.outputs, {"shape": [batch, *last], "allowzero": 0}, name=node.name
    )
    replace_node(node, joined.outputs[0])
    return True


def _batch(data: Dims) -> int:
    return data[0] if isinstance(data[0], int) else 0
