"""Resize and Upsample of all opsets -> Resize with its settings as attributes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.frontends.passes.attribute_forms import front_axes, optional_input
from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import (
    AttributeValue,
    get_ints,
    get_string,
    insert_before,
    label,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shape_values import known_ints
from pyruntime.graph.shapes import dims, rank


def run(model: ir.Model) -> bool:
    """Rewrite where scales or sizes are constant. Returns whether any node changed."""
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is not None and node.inputs and node.inputs[0] is not None:
            changed |= rule(node)
    return changed


def _upsample(node: ir.Node) -> bool:
    """Upsample (opset 7: attribute, 9: input) maps output to input by division and rounds down."""
    if "scales" in node.attributes:
        scales: list[float] = list(node.attributes["scales"].as_floats())
    else:
        array = constant(optional_input(node, 1))
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


def _resize(node: ir.Node) -> bool:
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
        scales_value, sizes_value = optional_input(node, 2), optional_input(node, 3)
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
    for axis, value in zip(front_axes(node, axes, size), values, strict=True):
        full[axis] = value
    return full


def _resize_to_sizes(node: ir.Node, sizes: list[int | str], size: int) -> bool:
    data = dims(node.inputs[0])
    assert data is not None
    axes = get_ints(node, "axes")
    target: list[int | str] = list(data) if axes is not None else list(sizes)
    if axes is not None:
        for axis, entry in zip(front_axes(node, axes, size), sizes, strict=True):
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


_RULES: dict[str, Callable[[ir.Node], bool]] = {"Upsample": _upsample, "Resize": _resize}
