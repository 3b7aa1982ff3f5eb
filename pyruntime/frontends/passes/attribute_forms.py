"""Settings that newer opsets pass as constant inputs become attributes again, all written out.

A node whose setting is not constant is left alone (and reported as unsupported later): another round, after
more constants have been folded, may find it constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import constant, is_constant
from pyruntime.graph.dimensions import reduced_axes
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    get_ints,
    get_string,
    has_attribute,
    insert_before,
    label,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shape_values import known_ints
from pyruntime.graph.shapes import dims, ints_of, normalize_axis, rank


def run(model: ir.Model) -> bool:
    """Rewrite every node that has a rule. Returns whether any node changed."""
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is not None and node.inputs and node.inputs[0] is not None:
            changed |= rule(node)
    return changed


def _drop_inputs(node: ir.Node, keep: int) -> bool:
    if len(node.inputs) <= keep:
        return False
    node.resize_inputs(keep)
    return True


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _is_dynamic(node: ir.Node, indices: Sequence[int]) -> bool:
    given = [value for index in indices if (value := optional_input(node, index)) is not None]
    return any(not is_constant(value) for value in given)


def scalar_input(node: ir.Node, index: int) -> float | None:
    array = constant(optional_input(node, index))
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def front_axes(node: ir.Node, axes: Sequence[int], size: int) -> list[int]:
    return [normalize_axis(axis, size, node) for axis in axes]


def _clip(node: ir.Node) -> bool:
    if _is_dynamic(node, (1, 2)):
        return False
    low, high = scalar_input(node, 1), scalar_input(node, 2)
    changed = set_attribute(node, "min", get_float(node, "min", -math.inf) if low is None else low)
    changed |= set_attribute(node, "max", get_float(node, "max", math.inf) if high is None else high)
    return _drop_inputs(node, 1) or changed


def _squeeze(node: ir.Node) -> bool:
    shape = dims(node.inputs[0])
    if _is_dynamic(node, (1,)) or shape is None:
        return False
    axes = ints_of(node, "axes", 1)
    axes = [axis for axis, dim in enumerate(shape) if dim == 1] if axes is None else axes
    changed = set_attribute(node, "axes", sorted(front_axes(node, axes, len(shape))))
    return _drop_inputs(node, 1) or changed


def _unsqueeze(node: ir.Node) -> bool:
    size, axes = rank(node.inputs[0]), ints_of(node, "axes", 1)
    if size is None or axes is None:
        return False
    changed = set_attribute(node, "axes", sorted(front_axes(node, axes, size + len(axes))))
    return _drop_inputs(node, 1) or changed


def _reduce_mean(node: ir.Node) -> bool:
    size = rank(node.inputs[0])
    axes = None if size is None else reduced_axes(node, size)
    if size is None or axes is None:
        return False
    if not axes:
        replace_node(node, insert_before(node, "Identity", node.inputs[:1]).outputs[0])
        return True
    keepdims = get_int(node, "keepdims", 1)
    if keepdims and size > 2 and axes == list(range(2, size)):
        replace_node(
            node, insert_before(node, "GlobalAveragePool", node.inputs[:1], name=node.name).outputs[0]
        )
        return True
    changed = set_attribute(node, "axes", axes)
    changed |= set_attribute(node, "keepdims", keepdims)
    changed |= set_attribute(node, "noop_with_empty_axes", None)
    return _drop_inputs(node, 1) or changed


def _slice(node: ir.Node) -> bool:
    size = rank(node.inputs[0])
    if has_attribute(node, "like_axes"):  # canonical already (dynamic_shapes)
        return False
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    if _is_dynamic(node, (3, 4)) or size is None or starts is None or ends is None:
        return False
    axes = ints_of(node, "axes", 3) or list(range(len(starts)))
    steps = ints_of(node, "steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(
            f"node {label(node)}: starts, ends, axes and steps do not fit together; correct the model"
        )
    changed = set_attribute(node, "starts", starts)
    changed |= set_attribute(node, "ends", ends)
    changed |= set_attribute(node, "axes", front_axes(node, axes, size))
    changed |= set_attribute(node, "steps", steps)
    return _drop_inputs(node, 1) or changed


def _split(node: ir.Node) -> bool:
    shape = dims(node.inputs[0])
    if _is_dynamic(node, (1,)) or shape is None:
        return False
    axis = normalize_axis(get_int(node, "axis", 0), len(shape), node)
    sizes, total = ints_of(node, "split", 1), shape[axis]
    if sizes is None:
        if not isinstance(total, int):
            return False
        parts = len(node.outputs)
        chunk = -(-total // parts)
        sizes = [max(0, min(chunk, total - part * chunk)) for part in range(parts)]
    changed = set_attribute(node, "axis", axis)
    changed |= set_attribute(node, "split", sizes)
    changed |= set_attribute(node, "num_outputs", None)
    return _drop_inputs(node, 1) or changed


def _pad(node: ir.Node) -> bool:
    size, pads = rank(node.inputs[0]), ints_of(node, "pads", 1)
    if _is_dynamic(node, (2, 3)) or size is None or pads is None:
        return False
    axes = ints_of(node, "axes", 3)
    if axes is not None:
        full = [0] * (2 * size)
        for position, axis in enumerate(front_axes(node, axes, size)):
            full[axis], full[axis + size] = pads[position], pads[position + len(axes)]
        pads = full
    if len(pads) != 2 * size:
        raise ModelError(
            f"node {label(node)}: {len(pads)} pads for a tensor of rank {size}; correct the model"
        )
    value = scalar_input(node, 2)
    changed = set_attribute(node, "mode", get_string(node, "mode", "constant"))
    changed |= set_attribute(node, "pads", pads)
    changed |= set_attribute(node, "value", get_float(node, "value", 0.0) if value is None else value)
    return _drop_inputs(node, 1) or changed


def _reshape(node: ir.Node) -> bool:
    changed = set_attribute(node, "allowzero", get_int(node, "allowzero", 0))
    if len(node.inputs) < 2:
        return changed
    target, data = known_ints(node.inputs[1]), dims(node.inputs[0])
    shape = None if target is None else _static_shape(target, data, bool(get_int(node, "allowzero", 0)))
    if shape is None:
        return changed
    if 0 in shape and not is_constant(node.inputs[1]):
        set_attribute(node, "allowzero", 0)
    set_attribute(node, "shape", shape)
    return _drop_inputs(node, 1)


def _static_shape(
    target: Sequence[int | str], data: list[int | str] | None, allow_zero: bool
) -> list[int] | None:
    """Reshape target without symbols: 0 for what equals the input at the same place, -1 for one other."""
    if all(isinstance(dim, int) for dim in target):
        return [int(dim) for dim in target]
    if allow_zero and 0 in target:
        return None
    shape: list[int] = []
    for axis, dim in enumerate(target):
        if isinstance(dim, int):
            shape.append(dim)
        elif data is not None and axis < len(data) and data[axis] == dim:
            shape.append(0)
        else:
            shape.append(-1)
    return shape if shape.count(-1) <= 1 else None


def _flatten(node: ir.Node) -> bool:
    axis, size = get_int(node, "axis", 1), rank(node.inputs[0])
    if size is None:
        return False
    return set_attribute(node, "axis", axis + size if axis < 0 else axis)


def _axis(default: int) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        size = rank(node.inputs[0])
        if size is None:
            return False
        return set_attribute(node, "axis", normalize_axis(get_int(node, "axis", default), size, node))

    return rule


def _transpose(node: ir.Node) -> bool:
    size = rank(node.inputs[0])
    if size is None:
        return False
    return set_attribute(node, "perm", get_ints(node, "perm") or list(reversed(range(size))))


def _floats(**defaults: float) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        changed = False
        for name, default in defaults.items():
            changed |= set_attribute(node, name, get_float(node, name, default))
        return changed

    return rule


def _gelu(node: ir.Node) -> bool:
    return set_attribute(node, "approximate", get_string(node, "approximate", "none"))


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "Clip": _clip,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "ReduceMean": _reduce_mean,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Concat": _axis(1),
    "Transpose": _transpose,
    "LeakyRelu": _floats(alpha=0.01),
    "HardSigmoid": _floats(alpha=0.2, beta=0.5),
    "Gelu": _gelu,
}
