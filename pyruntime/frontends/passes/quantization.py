"""QuantizeLinear and DequantizeLinear: complete inputs, scalar per-tensor parameters, quantized constants.

What is constant ends up as an integer initializer read by one DequantizeLinear:
Quantize(constant) is computed, Dequantize -> Quantize of a constant is computed, and Transpose, Reshape,
Squeeze, Unsqueeze and Flatten after the DequantizeLinear of a constant are moved into its initializer (the
axis of the scales follows).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant, is_constant
from pyruntime.graph.nodes import (
    get_int,
    get_ints,
    insert_before,
    label,
    owner,
    replace_node,
    set_attribute,
    topological_nodes,
)
from pyruntime.graph.shapes import dims, ints_of, rank

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def run(model: ir.Model) -> bool:
    """Complete the nodes, then compute and move what is constant."""
    changed = False
    for node in topological_nodes(model):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in ("", "com.microsoft"):
            changed |= _complete(node)
        if node.op_type == "QuantizeLinear" and node.domain == "":
            changed |= _quantize_constant(node)
        elif node.op_type in _MOVES and node.domain == "":
            changed |= _move_into_constant(node)
    return changed


def _complete(node: ir.Node) -> bool:
    changed = node.domain != ""
    node.domain = ""
    scale = constant(node.inputs[1])
    if scale is None:
        return changed
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_value is not None and not is_constant(zero_value):
        return changed
    _check_scale(node, scale)
    if zero_value is None:
        _add_zero_point(node, scale)
        changed = True
    zero_point = constant(node.inputs[2])
    if scale.size > 1 and zero_point is not None and zero_point.size == 1:
        full = np.full(scale.shape, zero_point.reshape(()))
        node.replace_input_with(2, add_initializer(owner(node), f"{node.name}_zero_point", full))
        changed = True
    if scale.size == 1 and (scale.ndim > 0 or (zero_point is not None and zero_point.ndim > 0)):
        _make_scalar(node)
        changed = True
    if scale.ndim == 1 and scale.size > 1 and get_int(node, "block_size", 0) == 0:
        size = rank(node.inputs[0])
        axis = get_int(node, "axis", 1)
        if size is not None:
            axis = axis + size if axis < 0 else axis
            data = dims(node.inputs[0])
            if axis >= size or (
                data is not None and isinstance(data[axis], int) and data[axis] != scale.size
            ):
                raise ModelError(
                    f"node {label(node)}: {scale.size} scales for axis {axis} of the shape {data}; "
                    f"correct the model"
                )
            changed |= set_attribute(node, "axis", axis)
    elif scale.size == 1:
        changed |= set_attribute(node, "axis", None)
        changed |= set_attribute(node, "block_size", None)
    for name in ("saturate", "output_dtype", "precision"):
        changed |= set_attribute(node, name, None)
    return changed


def _check_scale(node: ir.Node, scale: Array) -> None:
    values = scale.astype(np.float64)
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ModelError(
            f"node {label(node)}: every scale must be finite and greater than 0; quantize the model again"
        )


def _add_zero_point(node: ir.Node, scale: Array) -> None:
    if node.op_type == "DequantizeLinear":
        kind = node.inputs[0].dtype if node.inputs[0] is not None else None
    else:
        kind = ir.DataType(get_int(node, "output_dtype", 0) or int(ir.DataType.UINT8))
    if kind is None:
        raise ModelError(f"node {label(node)}: the type of its input is unknown; export the model again")
    node.resize_inputs(3)
    zeros = np.zeros(scale.shape, kind.numpy())
    node.replace_input_with(2, add_initializer(owner(node), f"{node.name}_zero_point", zeros))


def _make_scalar(node: ir.Node) -> None:
    for index in (1, 2):
        array, value = constant(node.inputs[index]), node.inputs[index]
        if array is None or value is None or array.ndim == 0:
            continue
        node.replace_input_with(
            index, add_initializer(owner(node), f"{value.name}_scalar", array.reshape(()))
        )


def _parameters(node: ir.Node, size: int) -> tuple[Array, Array] | None:
    """Scale and zero point of a node, to broadcast over a tensor of this rank; None if blocked or dynamic."""
    scale = constant(node.inputs[1])
    zero_point = constant(node.inputs[2] if len(node.inputs) > 2 else None)
    if scale is None or zero_point is None or scale.ndim > 1:
        return None
    if scale.ndim == 1:
        shape = [1] * size
        shape[get_int(node, "axis", 1)] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return scale, zero_point


def dequantize(node: ir.Node, data: Array) -> Array | None:
    """Float32 result of a DequantizeLinear on an array; None if its parameters are blocked or dynamic."""
    parameters = _parameters(node, data.ndim)
    if parameters is None:
        return None
    scale, zero_point = parameters
    if not np.issubdtype(data.dtype, np.integer) and data.dtype.kind != "V":
        return data.astype(np.float32) * scale.astype(np.float32)
    return (data.astype(np.int64) - zero_point.astype(np.int64)).astype(np.float32) * scale.astype(np.float32)


def _quantize_constant(node: ir.Node) -> bool:
    source = node.inputs[0]
    if source is None or node.outputs[0].is_graph_output():
        return False
    data = constant(source)
    producer = source.producer()
    if data is None and producer is not None and producer.op_type == "DequantizeLinear":
        integers = constant(producer.inputs[0])
        data = None if integers is None else dequantize(producer, integers)
    if data is None or not np.issubdtype(data.dtype, np.floating):
        return False
    parameters = _parameters(node, data.ndim)
    kind = node.inputs[2].dtype if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if parameters is None or kind is None or not kind.is_integer():
        return False
    scale, zero_point = parameters
    low, high = _range(kind)
    scaled = np.rint(data.astype(np.float32) / scale.astype(np.float32)).astype(np.float64)
    quantized = np.clip(scaled + zero_point.astype(np.float64), low, high).astype(kind.numpy())
    name = f"{source.name}_quantized"
    replace_node(node, add_initializer(owner(node), name, quantized))
    return True


def _range(kind: ir.DataType) -> tuple[int, int]:
    bits = int(kind.bitwidth)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind.is_signed() else (0, (1 << bits) - 1)


def _move_into_constant(node: ir.Node) -> bool:
    """DequantizeLinear(constant) -> Transpose: transpose the constant, so that a weight is recognised."""
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if producer is None or producer.op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
        return False
    data, scale = constant(producer.inputs[0]), constant(producer.inputs[1])
    if data is None or scale is None or len(producer.inputs) < 3 or scale.ndim > 1:
        return False
    moved = _moved(node, data)
    if moved is None:
        return False
    attributes = {}
    if scale.ndim == 1:
        axis = _moved_axis(node, data.shape, moved.shape, get_int(producer, "axis", 1))
        if axis is None:
            return False
        attributes["axis"] = axis
    old = producer.inputs[0]
    assert old is not None
    new = add_initializer(owner(node), f"{old.name}_{node.op_type.lower()}", moved)
    inputs = [new, producer.inputs[1], producer.inputs[2]]
    replace_node(
        node, insert_before(node, "DequantizeLinear", inputs, attributes, name=producer.name).outputs[0]
    )
    return True


def _moved(node: ir.Node, data: Array) -> Array | None:
    if node.op_type == "Transpose":
        return np.ascontiguousarray(data.transpose(get_ints(node, "perm")))
    axes = ints_of(node, "axes", 1)
    if node.op_type == "Squeeze":
        return np.squeeze(data, None if axes is None else tuple(axes))
    if node.op_type == "Unsqueeze":
        return None if axes is None else np.expand_dims(data, tuple(axes))
    if node.op_type == "Flatten":
        axis = get_int(node, "axis", 1)
        return data.reshape(math.prod(data.shape[: axis + data.ndim if axis < 0 else axis]), -1)
    shape = ints_of(node, "shape", 1)
    if shape is None:
        return None
    if not get_int(node, "allowzero", 0):
        shape = [data.shape[axis] if dim == 0 else dim for axis, dim in enumerate(shape)]
    return data.reshape(shape)


def _moved_axis(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    if node.op_type == "Transpose":
        perm = get_ints(node, "perm") or list(reversed(range(len(before))))
        return perm.index(axis)
    prefix = math.prod(before[:axis])
    for new_axis, dim in enumerate(after):
        if dim == before[axis] and math.prod(after[:new_axis]) == prefix:
            return new_axis
    return None
