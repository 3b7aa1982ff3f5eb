"""Shape and type inference over the canonical form, with symbolic dimensions.

Works on the canonical form and on the standard forms it is made from, so it can run at any time: after
canonicalisation, after a stage has changed the size of a weight. A dimension is an integer or a string: a
symbol of the model's inputs ("N"), an expression over one ("(H+1)//2+1") or, where nothing is known, a name
made from the value's. The rules are in `shape_rules`.
"""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.dimensions import Dim, Dims, ints_of, normalize_axis, numbers_of
from pyruntime.graph.nodes import get_int, label, topological_nodes
from pyruntime.graph.shape_rules import RULES
from pyruntime.graph.shape_values import known_ints, track_ints


def dims(value: ir.Value | None) -> Dims | None:
    """Dimensions of a value (integers, or strings for symbolic ones); None if not even the rank is known."""
    if value is None or value.shape is None:
        return None
    return [
        int(dim) if isinstance(dim, int) else (dim.value or f"{value.name}_dim{axis}")
        for axis, dim in enumerate(value.shape)
    ]


def rank(value: ir.Value | None) -> int | None:
    """Rank of a value, None if unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def infer_shapes(model: ir.Model) -> None:
    """Set shape and dtype of every node output that can be derived; what cannot be derived keeps what it had.

    Errors: ModelError naming the node whose input shapes do not fit together.
    """
    for node in topological_nodes(model):
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx", "pyruntime") else None
        if rule is None:
            continue
        try:
            results = rule(node, [dims(value) for value in node.inputs])
        except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"node {label(node)}: its inputs do not fit together ({reason}); correct the model"
            ) from None
        for output, result in zip(node.outputs, results, strict=False):
            if result is not None:
                _set_shape(output, result)
        _set_types(node)
        track_ints(node)


def _set_shape(value: ir.Value, new: Dims) -> None:
    old = dims(value)
    unknown = {f"{value.name}_dim{axis}" for axis in range(len(new))}
    if old is not None and len(old) == len(new):
        new = [before if after in unknown else after for before, after in zip(old, new, strict=True)]
    value.shape = ir.Shape(new)


_COMPARISONS = (
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "And",
    "Or",
    "Not",
    "IsNaN",
)


def _set_types(node: ir.Node) -> None:
    kind: ir.DataType | None = None
    if node.op_type == "Cast":
        kind = ir.DataType(get_int(node, "to", int(ir.DataType.FLOAT)))
    elif node.op_type == "DequantizeLinear":
        kind = ir.DataType.FLOAT
    elif node.op_type == "QuantizeLinear":
        zero_point = node.inputs[2] if len(node.inputs) > 2 else None
        kind = zero_point.dtype if zero_point is not None else None
        kind = kind or ir.DataType(get_int(node, "output_dtype", 0) or int(ir.DataType.UINT8))
    elif node.op_type in ("Shape", "Size", "NonZero"):
        kind = ir.DataType.INT64
    elif node.op_type == "ConstantOfShape":
        kind = node.attributes["value"].as_tensor().dtype if "value" in node.attributes else ir.DataType.FLOAT
    elif node.op_type in _COMPARISONS:
        kind = ir.DataType.BOOL
    elif node.op_type == "Where" and node.inputs[1] is not None:
        kind = node.inputs[1].dtype
    elif node.inputs and node.inputs[0] is not None:
        kind = node.inputs[0].dtype
    if kind is None:
        return
    node.outputs[0].type = ir.TensorType(kind)
    for output in node.outputs[1:]:
        if node.op_type == "Split":
            output.type = ir.TensorType(kind)


__all__ = [
    "Dim",
    "Dims",
    "dims",
    "infer_shapes",
    "ints_of",
    "known_ints",
    "normalize_axis",
    "numbers_of",
    "rank",
]
