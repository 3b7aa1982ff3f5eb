"""Settings that newer opsets pass as constant inputs become attributes again, all written out.

A node whose setting is not constant is left alone (and reported as unsupported later): another round, after
more constants have been folded, may find it constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import add_initializer, constant, is_constant
from pyruntime.graph.nodes import (
    AttributeValue,
    get_float,
    get_int,
    get_ints,
    get_string,
    insert_before,
    label,
    owner,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shape_values import known_ints
from pyruntime.graph.shapes import dims, ints_of, normalize_axis, numbers_of, rank

# Mark of a Softmax whose axis already has the meaning of opset 13.
_LAST_AXIS = "pyruntime_softmax_13"


def run(model: ir.Model) -> bool:
    """Rewrite every node that has a rule. Returns whether any node changed."""
    opset = model.opset_imports.get("", 1)
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is not None and node.inputs and node.inputs[0] is not None:
            changed |= rule(node, opset)
    return changed


def _drop_inputs(node: ir.Node, keep: int) -> bool:
    if len(node.inputs) <= keep:
        return False
    node.resize_inputs(keep)
    return True


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _is_dynamic(node: ir.Node, indices: Sequence[int]) -> bool:
    given = [value for index in indices if (value := _input(node, index)) is not None]
    return any(not is_constant(value) for value in given)


def _scalar(node: ir.Node, index: int) -> float | None:
    array = constant(_input(node, index))
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _front_axes(node: ir.Node, axes: Sequence[int], size: int) -> list[int]:
    return [normalize_axis(axis, size, node) for axis in axes]


def _clip(node: ir.Node, opset: int) -> bool:
    if _is_dynamic(node, (1, 2)):
        return False
    low, high = _scalar(node, 1), _scalar(node, 2)
    changed = set_attribute(node, "min", get_float(node, "min", -math.inf) if low is None else low)
    changed |= set_attribute(node, "max", get_float(node, "max", math.inf) if high is None else high)
    return _drop_inputs(node, 1) or changed


def _squeeze(node: ir.Node, opset: int) -> bool:
    shape = dims(node.inputs[0])
    if _is_dynamic(node, (1,)) or shape is None:
        return False
    axes = ints_of(node, "axes", 1)
    axes = [axis for axis, dim in enumerate(shape) if dim == 1] if axes is None else axes
    changed = set_attribute(node, "axes", sorted(_front_axes(node, axes, len(shape))))
    return _drop_inputs(node, 1) or changed


def _unsqueeze(node: ir.Node, opset: int) -> bool:
    size, axes = rank(node.inputs[0]), ints_of(node, "axes", 1)
    if size is None or axes is None:
        return False
    changed = set_attribute(node, "axes", sorted(_front_axes(node, axes, size + len(axes))))
    return _drop_inputs(node, 1) or changed


def _reduce_mean(node: ir.Node, opset: int) -> bool:
    size = rank(node.inputs[0])
    if _is_dynamic(node, (1,)) or size is None:
        return False
    axes = ints_of(node, "axes", 1)
    if not axes and get_int(node, "noop_with_empty_axes", 0):
        replace_node(node, insert_before(node, "Identity", node.inputs[:1]).outputs[0])
        return True
    axes = sorted(_front_axes(node, axes or list(range(size)), size))
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


def _slice(node: ir.Node, opset: int) -> bool:
    size = rank(node.inputs[0])
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
    changed |= set_attribute(node, "axes", _front_axes(node, axes, size))
    changed |= set_attribute(node, "steps", steps)
    return _drop_inputs(node, 1) or changed


def _split(node: ir.Node, opset: int) -> bool:
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


def _pad(node: ir.Node, opset: int) -> bool:
    size, pads = rank(node.inputs[0]), ints_of(node, "pads", 1)
    if _is_dynamic(node, (2, 3)) or size is None or pads is None:
        return False
    axes = ints_of(node, "axes", 3)
    if axes is not None:
        full = [0] * (2 * size)
        for position, axis in enumerate(_front_axes(node, axes, size)):
            full[axis], full[axis + size] = pads[position], pads[position + len(axes)]
        pads = full
    if len(pads) != 2 * size:
        raise ModelError(
            f"node {label(node)}: {len(pads)} pads for a tensor of rank {size}; correct the model"
        )
    value = _scalar(node, 2)
    changed = set_attribute(node, "mode", get_string(node, "mode", "constant"))
    changed |= set_attribute(node, "pads", pads)
    changed |= set_attribute(node, "value", get_float(node, "value", 0.0) if value is None else value)
    return _drop_inputs(node, 1) or changed


def _reshape(node: ir.Node, opset: int) -> bool:
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


def _flatten(node: ir.Node, opset: int) -> bool:
    axis, size = get_int(node, "axis", 1), rank(node.inputs[0])
    if size is None:
        return False
    return set_attribute(node, "axis", axis + size if axis < 0 else axis)


def _axis(default: int) -> Callable[[ir.Node, int], bool]:
    def rule(node: ir.Node, opset: int) -> bool:
        size = rank(node.inputs[0])
        if size is None:
            return False
        return set_attribute(node, "axis", normalize_axis(get_int(node, "axis", default), size, node))

    return rule


def _transpose(node: ir.Node, opset: int) -> bool:
    size = rank(node.inputs[0])
    if size is None:
        return False
    return set_attribute(node, "perm", get_ints(node, "perm") or list(reversed(range(size))))


def _floats(**defaults: float) -> Callable[[ir.Node, int], bool]:
    def rule(node: ir.Node, opset: int) -> bool:
        changed = False
        for name, default in defaults.items():
            changed |= set_attribute(node, name, get_float(node, name, default))
        return changed

    return rule


def _gelu(node: ir.Node, opset: int) -> bool:
    return set_attribute(node, "approximate", get_string(node, "approximate", "none"))


def _upsample(node: ir.Node, opset: int) -> bool:
    """Upsample (opset 7: attribute, 9: input) maps output to input by division and rounds down."""
    if "scales" in node.attributes:
        scales: list[float] = list(node.attributes["scales"].as_floats())
    else:
        array = constant(_input(node, 1))
        if array is None:
            return False
        scales = [float(scale) for scale in array]
    mode = get_string(node, "mode", "nearest")
    attributes: dict[str, AttributeValue] = {
        "mode": "linear" if mode in ("linear", "bilinear") else mode,
        "scales": scales,
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    replace_node(node, insert_before(node, "Resize", node.inputs[:1], attributes, name=node.name).outputs[0])
    return True


def _resize(node: ir.Node, opset: int) -> bool:
    if "scales" in node.attributes or "sizes" in node.attributes:
        return False
    size = rank(node.inputs[0])
    if size is None:
        return False
    if len(node.inputs) == 2:  # opset 10: X, scales
        scales_value, sizes_value = node.inputs[1], None
        set_attribute(node, "coordinate_transformation_mode", "asymmetric")
        set_attribute(node, "nearest_mode", "floor")
    else:
        scales_value, sizes_value = _input(node, 2), _input(node, 3)
    scales, sizes = constant(scales_value), known_ints(sizes_value)
    if get_string(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if sizes:
        # A symbol here (the batch, kept) becomes a scale of 1 of that axis.
        if not _resize_to_sizes(node, sizes, size):
            return False
    elif scales is not None and scales.size:
        set_attribute(node, "scales", _on_all_axes(node, [float(scale) for scale in scales], size))
    else:
        return False
    set_attribute(node, "mode", get_string(node, "mode", "nearest"))
    set_attribute(
        node,
        "coordinate_transformation_mode",
        get_string(node, "coordinate_transformation_mode", "half_pixel"),
    )
    set_attribute(node, "nearest_mode", get_string(node, "nearest_mode", "round_prefer_floor"))
    set_attribute(node, "axes", None)
    node.resize_inputs(1)
    return True


def _on_all_axes(node: ir.Node, values: list[float], size: int) -> list[float]:
    axes = get_ints(node, "axes")
    if axes is None:
        if len(values) != size:
            raise ModelError(
                f"node {label(node)}: {len(values)} scales for a tensor of rank {size}; correct the model"
            )
        return values
    full = [1.0] * size
    for axis, value in zip(_front_axes(node, axes, size), values, strict=True):
        full[axis] = value
    return full


def _resize_to_sizes(node: ir.Node, sizes: list[int | str], size: int) -> bool:
    data = dims(node.inputs[0])
    assert data is not None
    axes = get_ints(node, "axes")
    target: list[int | str] = list(data) if axes is not None else list(sizes)
    if axes is not None:
        for axis, entry in zip(_front_axes(node, axes, size), sizes, strict=True):
            target[axis] = entry
    if get_string(node, "keep_aspect_ratio_policy", "stretch") != "stretch" or len(target) != size:
        return False
    if all(isinstance(entry, int) for entry in target):
        set_attribute(node, "sizes", [int(entry) for entry in target])
        return True
    scales: list[float] = []
    for before, after in zip(data, target, strict=True):
        if before == after:
            scales.append(1.0)
        elif isinstance(before, int) and isinstance(after, int) and before:
            scales.append(float(np.float32(after / before)))
        else:
            return False
    if any(
        isinstance(before, int) and math.floor(np.float32(before) * np.float32(scale)) != after
        for before, after, scale in zip(data, target, scales, strict=True)
    ):
        return False
    set_attribute(node, "scales", scales)
    return True


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


def _sum(node: ir.Node, opset: int) -> bool:
    """Sum of several tensors -> a chain of Add."""
    total = node.inputs[0]
    for value in node.inputs[1:]:
        total = insert_before(node, "Add", [total, value], name=node.name).outputs[0]
    if total is None or len(node.inputs) < 2:
        return False
    replace_node(node, total)
    return True


def _bound(node: ir.Node, opset: int) -> bool:
    """Min or Max with one scalar constant -> Clip."""
    if len(node.inputs) != 2 or (node.inputs[0].dtype if node.inputs[0] else None) != ir.DataType.FLOAT:
        return False
    for data, bound in ((0, 1), (1, 0)):
        scalar, array = _scalar(node, bound), constant(node.inputs[bound])
        size = rank(node.inputs[data])
        if (
            scalar is None
            or array is None
            or is_constant(node.inputs[data])
            or size is None
            or array.ndim > size
        ):
            continue
        low, high = (-math.inf, scalar) if node.op_type == "Min" else (scalar, math.inf)
        clip = insert_before(node, "Clip", [node.inputs[data]], {"min": low, "max": high}, name=node.name)
        replace_node(node, clip.outputs[0])
        return True
    return False


def _pow(node: ir.Node, opset: int) -> bool:
    """Pow with exponent 1, 2, 3 or 0.5 -> the operators that compute it exactly as people mean it."""
    exponent, array = _scalar(node, 1), constant(_input(node, 1))
    size, data = rank(node.inputs[0]), node.inputs[0]
    if array is None or size is None or array.ndim > size or data is None or data.dtype != ir.DataType.FLOAT:
        return False
    if exponent == 0.5:
        replace_node(node, insert_before(node, "Sqrt", [data], name=node.name).outputs[0])
        return True
    if exponent not in (1.0, 2.0, 3.0):
        return False
    result = data
    for _ in range(int(exponent) - 1):
        result = insert_before(node, "Mul", [result, data], name=node.name).outputs[0]
    replace_node(node, result)
    return True


def _neg(node: ir.Node, opset: int) -> bool:
    if (node.inputs[0].dtype if node.inputs[0] else None) != ir.DataType.FLOAT:
        return False
    minus_one = _constant_scalar(node, -1.0)
    replace_node(node, insert_before(node, "Mul", [node.inputs[0], minus_one], name=node.name).outputs[0])
    return True


def _reciprocal(node: ir.Node, opset: int) -> bool:
    one = _constant_scalar(node, 1.0)
    replace_node(node, insert_before(node, "Div", [one, node.inputs[0]], name=node.name).outputs[0])
    return True


def _constant_scalar(node: ir.Node, value: float) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_constant", np.asarray(value, np.float32))


_RULES: dict[str, Callable[[ir.Node, int], bool]] = {
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
    "Upsample": _upsample,
    "Resize": _resize,
    "Softmax": _softmax,
    "Sum": _sum,
    "Min": _bound,
    "Max": _bound,
    "Pow": _pow,
    "Neg": _neg,
    "Reciprocal": _reciprocal,
}
