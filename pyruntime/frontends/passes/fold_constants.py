"""Constant folding: nodes whose inputs are all constant become initializers.

QuantizeLinear and DequantizeLinear are left to `quantized_constants`: a quantized weight must stay quantized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant, is_constant
from pyruntime.graph.nodes import get_float, get_int, get_ints, label, owner, replace_value, topological_nodes
from pyruntime.graph.shape_values import known_ints
from pyruntime.graph.shapes import ints_of

_NEVER = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
}
# A file of a few bytes must not be able to ask for more memory than a large network needs.
_MOST_BYTES = 8 << 30


def run(model: ir.Model) -> bool:
    """Fold every foldable node; integer vectors that shape inference knows completely are folded too."""
    changed = False
    for node in topological_nodes(model):
        arrays = _evaluate(node, model.opset_imports.get("", 1))
        if arrays is None:
            continue
        for output, array in zip(node.outputs, arrays, strict=False):
            if output.is_graph_output():
                continue
            name, output.name = output.name, None
            replace_value(output, add_initializer(model, name or f"{node.name}_constant", array))
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            owner(node).remove(node, safe=True)
            changed = True
    return changed


def _evaluate(node: ir.Node, opset: int) -> list[Array] | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER:
        return None
    if all(output.is_graph_output() for output in node.outputs):
        return None
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    if node.op_type == "Constant":
        return [_constant_node(node)]
    inputs = [value for value in node.inputs if value is not None]
    if not inputs or not all(is_constant(value) for value in inputs):
        known = known_ints(node.outputs[0]) if len(node.outputs) == 1 else None
        if known is not None and all(isinstance(entry, int) for entry in known):
            return [_as_array(node.outputs[0], [int(entry) for entry in known])]
        return None
    return _compute(node, [constant(value) for value in node.inputs], opset)


def _as_array(value: ir.Value, entries: list[int]) -> Array:
    dtype = np.int32 if value.dtype == ir.DataType.INT32 else np.int64
    array = np.asarray(entries, dtype)
    return array.reshape(()) if value.shape is not None and len(value.shape) == 0 else array


def _constant_node(node: ir.Node) -> Array:
    for name, attribute in node.attributes.items():
        if name == "value":
            return np.asarray(attribute.as_tensor().numpy())
        if name == "value_float":
            return np.asarray(attribute.as_float(), np.float32)
        if name == "value_floats":
            return np.asarray(attribute.as_floats(), np.float32)
        if name == "value_int":
            return np.asarray(attribute.as_int(), np.int64)
        if name == "value_ints":
            return np.asarray(attribute.as_ints(), np.int64)
    raise ModelError(f"node {label(node)}: no numeric value; only dense numeric constants are supported")


def _compute(node: ir.Node, arrays: Sequence[Array | None], opset: int) -> list[Array] | None:
    rule = _RULES.get(node.op_type)
    try:
        if (
            rule is not None
            and (result := rule(node, [array for array in arrays if array is not None])) is not None
        ):
            return [result]
        if node.op_type in ("Expand", "Tile"):
            _check_size(node, arrays)
        return _reference(node, arrays, opset)
    except ModelError:
        raise
    except Exception as error:  # the evaluator raises whatever NumPy or it comes across
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"node {label(node)}: cannot be evaluated on its constant inputs ({reason})"
        ) from None


def _check_size(node: ir.Node, arrays: Sequence[Array | None]) -> None:
    data, counts = arrays[0], arrays[1]
    assert data is not None and counts is not None
    entries = math.prod(max(1, int(count)) for count in counts.reshape(-1))
    if entries * data.dtype.itemsize * (data.size if node.op_type == "Tile" else 1) > _MOST_BYTES:
        raise ModelError(
            f"node {label(node)}: constant of more than {_MOST_BYTES >> 30} GiB; reduce its size"
        )


def _reference(node: ir.Node, arrays: Sequence[Array | None], opset: int) -> list[Array] | None:
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(arrays)]
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(f"o{index}" for index in range(len(node.outputs)))
    unknown = onnx.TypeProto()
    graph = onnx.helper.make_graph(
        [proto],
        "constant",
        [onnx.helper.make_value_info(name, unknown) for name in names if name],
        [onnx.helper.make_value_info(name, unknown) for name in proto.output],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    try:
        evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))
    except Exception:  # an operator the evaluator does not have stays, and is reported as unsupported
        return None
    results = evaluator.run(None, {name: array for name, array in zip(names, arrays, strict=True) if name})
    return [np.asarray(result) for result in results]


def _cast(node: ir.Node, arrays: list[Array]) -> Array | None:
    kind = ir.DataType(get_int(node, "to", int(ir.DataType.FLOAT)))
    return arrays[0].astype(kind.numpy()) if kind not in (ir.DataType.STRING, ir.DataType.BOOL) else None


def _reshape(node: ir.Node, arrays: list[Array]) -> Array | None:
    shape = ints_of(node, "shape", 1)
    if shape is None:
        return None
    if not get_int(node, "allowzero", 0):
        shape = [arrays[0].shape[axis] if dim == 0 else dim for axis, dim in enumerate(shape)]
    return arrays[0].reshape(shape)


def _transpose(node: ir.Node, arrays: list[Array]) -> Array | None:
    return np.ascontiguousarray(arrays[0].transpose(get_ints(node, "perm")))


def _squeeze(node: ir.Node, arrays: list[Array]) -> Array | None:
    axes = ints_of(node, "axes", 1)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def _unsqueeze(node: ir.Node, arrays: list[Array]) -> Array | None:
    axes = ints_of(node, "axes", 1)
    return None if axes is None else np.expand_dims(arrays[0], tuple(axes))


def _flatten(node: ir.Node, arrays: list[Array]) -> Array | None:
    axis = get_int(node, "axis", 1)
    axis = axis + arrays[0].ndim if axis < 0 else axis
    return arrays[0].reshape(math.prod(arrays[0].shape[:axis]), -1)


def _slice(node: ir.Node, arrays: list[Array]) -> Array | None:
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    if starts is None or ends is None:
        return None
    axes = ints_of(node, "axes", 3) or list(range(len(starts)))
    steps = ints_of(node, "steps", 4) or [1] * len(starts)
    index: list[slice] = [slice(None)] * arrays[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -(1 << 30) else end, step)
    return np.ascontiguousarray(arrays[0][tuple(index)])


def _constant_of_shape(node: ir.Node, arrays: list[Array]) -> Array | None:
    fill = (
        node.attributes["value"].as_tensor().numpy().reshape(())
        if "value" in node.attributes
        else np.float32(0)
    )
    shape = [int(dim) for dim in arrays[0].reshape(-1)]
    if min(shape, default=0) < 0 or math.prod(shape) * fill.dtype.itemsize > _MOST_BYTES:
        raise ModelError(f"node {label(node)}: shape {shape} is not usable; correct the model")
    return np.full(shape, fill) if fill != 0 else np.zeros(shape, fill.dtype)


def _clip(node: ir.Node, arrays: list[Array]) -> Array | None:
    bounds = [get_float(node, name, bound) for name, bound in (("min", -math.inf), ("max", math.inf))]
    if "min" not in node.attributes and "max" not in node.attributes:
        return None  # bounds are inputs still
    if arrays[0].dtype.kind not in "fiu":
        return None
    if arrays[0].dtype.kind != "f":
        limits = np.iinfo(arrays[0].dtype)
        low, high = (int(min(max(bound, limits.min), limits.max)) for bound in bounds)
        return np.clip(arrays[0], low, high)
    return np.asarray(np.clip(arrays[0], *(np.float32(bound) for bound in bounds)), arrays[0].dtype)


def _copy(node: ir.Node, arrays: list[Array]) -> Array | None:
    return arrays[0]


_RULES: dict[str, Callable[[ir.Node, list[Array]], Array | None]] = {
    "Identity": _copy,
    "Cast": _cast,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Slice": _slice,
    "ConstantOfShape": _constant_of_shape,
    "Clip": _clip,
}
