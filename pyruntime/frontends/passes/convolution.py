"""Conv and pooling: every attribute written out, automatic padding resolved, trivial forms simplified."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import weight_initializer
from pyruntime.graph.nodes import (
    get_int,
    get_ints,
    get_string,
    insert_before,
    label,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shapes import Dims, dims


def run(model: ir.Model) -> bool:
    """Complete the attributes of Conv, MaxPool and AveragePool."""
    changed = False
    for node in topological_nodes(model):
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Conv" and weight_initializer(node.inputs[1]) is not None:
            changed |= _convolution(node)
        elif node.op_type in ("MaxPool", "AveragePool"):
            changed |= _pool(node)
    return changed


def _convolution(node: ir.Node) -> bool:
    weight = dims(weight_initializer(node.inputs[1]))
    assert weight is not None
    kernel = [int(dim) for dim in weight[2:]]
    group = get_int(node, "group", 1)
    written = get_ints(node, "kernel_shape", kernel)
    if written != kernel:
        raise ModelError(
            f"node {label(node)}: kernel_shape {written} but the weight has {kernel}; correct the model"
        )
    _check_channels(node, [int(dim) for dim in weight], group)
    changed = set_attribute(node, "group", group)
    changed |= _windows(node, kernel)
    if len(node.inputs) == 3 and node.inputs[2] is None:
        node.resize_inputs(2)
        changed = True
    return changed


def _check_channels(node: ir.Node, weight: list[int], group: int) -> None:
    data = dims(node.inputs[0])
    if group < 1 or weight[0] % group:
        raise ModelError(
            f"node {label(node)}: {weight[0]} output channels in {group} groups; correct the model"
        )
    channels = weight[1] * group
    if data is not None and isinstance(data[1], int) and data[1] != channels:
        raise ModelError(
            f"node {label(node)}: the input has {data[1]} channels, the weight expects {channels}; "
            f"correct the model"
        )


def _pool(node: ir.Node) -> bool:
    kernel = get_ints(node, "kernel_shape")
    if kernel is None:
        raise ModelError(f"node {label(node)}: attribute 'kernel_shape' is missing; export the model again")
    changed = _windows(node, kernel)
    changed |= set_attribute(node, "ceil_mode", get_int(node, "ceil_mode", 0))
    if node.op_type == "AveragePool":
        changed |= set_attribute(node, "count_include_pad", get_int(node, "count_include_pad", 0))
    else:
        changed |= set_attribute(node, "storage_order", None)
        if len(node.outputs) > 1 and not (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
            node.resize_outputs(1)
            changed = True
    if len(node.outputs) == 1 and _covers_all(node, kernel):
        new = insert_before(node, f"Global{node.op_type}", node.inputs[:1], name=node.name)
        replace_node(node, new.outputs[0])
        return True
    return changed


def _covers_all(node: ir.Node, kernel: list[int]) -> bool:
    data = dims(node.inputs[0])
    dilations = get_ints(node, "dilations") or []
    return (
        data is not None
        and data[2:] == kernel
        and not any(get_ints(node, "pads") or [])
        and set(dilations) == {1}
    )


def _windows(node: ir.Node, kernel: list[int]) -> bool:
    spatial = len(kernel)
    strides = get_ints(node, "strides") or [1] * spatial
    dilations = get_ints(node, "dilations") or [1] * spatial
    pads = get_ints(node, "pads") or [0] * (2 * spatial)
    if (
        not len(strides) == len(dilations) == spatial
        or len(pads) != 2 * spatial
        or min([*strides, *dilations, *kernel]) < 1
    ):
        raise ModelError(
            f"node {label(node)}: strides {strides}, dilations {dilations}, pads {pads} do not fit "
            f"kernel_shape {kernel}; correct the model"
        )
    auto_pad = get_string(node, "auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = [0] * (2 * spatial)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(node, dims(node.inputs[0]), kernel, strides, dilations, auto_pad == "SAME_UPPER")
    elif auto_pad not in ("NOTSET", ""):
        raise ModelError(f"node {label(node)}: auto_pad '{auto_pad}' is unknown; correct the model")
    changed = set_attribute(node, "kernel_shape", kernel)
    changed |= set_attribute(node, "strides", strides)
    changed |= set_attribute(node, "dilations", dilations)
    changed |= set_attribute(node, "pads", pads)
    return set_attribute(node, "auto_pad", None) or changed


def _same_pads(
    node: ir.Node, data: Dims | None, kernel: list[int], strides: list[int], dilations: list[int], upper: bool
) -> list[int]:
    begins, ends = [], []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        length = data[axis + 2] if data is not None and len(data) > axis + 2 else None
        window = (size - 1) * dilation + 1
        if isinstance(length, int):
            total = max((-(-length // stride) - 1) * stride + window - length, 0)
        elif stride == 1:
            total = window - 1
        else:
            raise ModelError(
                f"node {label(node)}: auto_pad needs the size of axis {axis + 2}, which is '{length}'; "
                "give the model's input a fixed height and width"
            )
        smaller, larger = total // 2, total - total // 2
        begins.append(smaller if upper else larger)
        ends.append(larger if upper else smaller)
    return begins + ends
