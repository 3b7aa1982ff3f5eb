"""Rules for operators that move data: they keep dtype, scale and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph import get_float, get_int, get_ints, get_string, label, rank
from pyruntime.lower.context import DTYPES, Context, Match, dynamic, sources
from pyruntime.lower.quantization import Operand, Params, operand_of, params_of, real_constant
from pyruntime.program import COORDINATE_MODES, Array

_FAR = 2**31  # beyond any dimension; ONNX writes the largest int64 for "to the end"

MOVEMENT = (
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def keeps_values(node: ir.Node) -> bool:
    """Whether every output element is one of the inputs' elements (or the value of a Pad)."""
    if node.op_type == "Resize":
        return get_string(node, "mode", "nearest") == "nearest"
    return node.domain == "" and node.op_type in MOVEMENT


def movement_of(value: ir.Value) -> tuple[str, dict[str, Any]]:
    """(operator, attributes) that make `value` from the inputs of its producer; Pad's value is left out."""
    node = value.producer()
    assert node is not None
    op = node.op_type
    if op == "Identity":
        return "reshape", {"shape": [0] * (rank(value) or 0), "allowzero": 0}
    if op == "Concat":
        return "concat", {"axis": get_int(node, "axis", 0)}
    if op == "Flatten":
        return "flatten", {"axis": get_int(node, "axis", 1)}
    if op == "Reshape":
        return "reshape", {"shape": get_ints(node, "shape"), "allowzero": get_int(node, "allowzero", 0)}
    if op in ("Squeeze", "Unsqueeze"):
        return op.lower(), {"axes": get_ints(node, "axes")}
    if op == "Transpose":
        return "transpose", {"perm": get_ints(node, "perm")}
    if op == "Pad":
        return "pad", {"pads": get_ints(node, "pads"), "mode": get_string(node, "mode", "constant")}
    if op == "Slice":
        return "slice", _slice(node)
    if op == "Gather":
        return "gather", {"axis": get_int(node, "axis", 0)}
    if op == "Expand":
        return "expand", {"shape": get_ints(node, "shape"), **_like(node)}
    if op == "Split":
        return "slice", _part(node, value)
    return "resize", _resize(node)


def _slice(node: ir.Node) -> dict[str, Any]:
    cut = {key: get_ints(node, key) or [] for key in ("starts", "ends", "axes", "steps")}
    for key in ("starts", "ends"):
        cut[key] = [max(-_FAR, min(_FAR, bound)) for bound in cut[key]]
    return cut | _like(node)


def _like(node: ir.Node) -> dict[str, Any]:
    axes = get_ints(node, "like_axes")
    return {} if axes is None else {"like_axes": axes}


def _part(node: ir.Node, value: ir.Value) -> dict[str, Any]:
    """One output of a Split as a slice."""
    sizes, index = get_ints(node, "split") or [], value.index() or 0
    start = sum(sizes[:index])
    return {
        "starts": [start],
        "ends": [start + sizes[index]],
        "axes": [get_int(node, "axis", 0)],
        "steps": [1],
    }


def _resize(node: ir.Node) -> dict[str, Any]:
    coordinates = get_string(node, "coordinate_transformation_mode", "half_pixel")
    if coordinates not in COORDINATE_MODES:
        modes = ", ".join(COORDINATE_MODES)
        raise ModelError(f"node {label(node)}: coordinates {coordinates!r}, expected one of {modes}")
    attributes: dict[str, Any] = {
        "mode": get_string(node, "mode", "nearest"),
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": get_string(node, "nearest_mode", "round_prefer_floor"),
    }
    if "sizes" in node.attributes:
        attributes["sizes"] = get_ints(node, "sizes")
    else:
        attributes["scales"] = [float(scale) for scale in node.attributes["scales"].as_floats()]
    return attributes


def quantized_movement(context: Context, value: ir.Value) -> Match | None:
    """Q <- movement <- DQ: movement of u8. Float constants among the inputs are quantized, as Q would.

    Where scales differ a table requantizes first: exact, since Q of moved values is moved Q of values.
    """
    quantize = value.producer()
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.inputs[0] is None:
        return None
    out, moved = params_of(quantize), quantize.inputs[0]
    node = moved.producer()
    if out is None or node is None or not keeps_values(node):
        return None
    parts = [_part_of(x) for x in node.inputs if x is not None]
    computed = [part for part in parts if isinstance(part, Operand) and not part.is_constant]
    if not computed or any(part is None for part in parts):
        return None
    params = out[0]

    def emit() -> None:
        inputs = [_emit_part(context, part, params, node) for part in parts]
        op, attributes = movement_of(moved)
        if op == "pad":
            attributes["value"] = params.bound(get_float(node, "value", 0.0))
        context.node(node, op, inputs, context.quantized_output(value, params), attributes)

    return Match(sources(computed), emit)


def _part_of(value: ir.Value) -> Operand | Array | None:
    operand = operand_of(value)
    return operand if operand is not None else real_constant(value)


def _emit_part(context: Context, part: Operand | Array | None, params: Params, node: ir.Node) -> str:
    if isinstance(part, Operand):
        return context.requantized_input(part, params, node)
    assert part is not None
    return context.constant(f"{node.name}_constant", params.quantize(part), "u8")


def move(context: Context, value: ir.Value) -> Match | None:
    """Movement of whatever the inputs are: float values, or integers moved without a DQ."""
    node = value.producer()
    if node is None or not (keeps_values(node) or node.op_type == "Resize"):
        return None

    def emit() -> None:
        names = [context.float_input(x) for x in node.inputs if x is not None]
        op, attributes = movement_of(value)
        if op == "pad":
            attributes["value"] = get_float(node, "value", 0.0)
        moved = names[:1] if op in ("slice", "expand", "gather") else names
        context.node(node, op, names, output_like(context, value, moved), attributes)

    return Match(dynamic(node.inputs), emit)


def output_like(context: Context, value: ir.Value, names: list[str]) -> str:
    """Describes the output of an operator that keeps dtype, scale and zero point of its input."""
    known = [context.program.values[name] for name in names if name in context.program.values]
    dtype = known[0].dtype if known else context.program.dtype(names[0])
    name = value.name or context.fresh("value")
    declared = DTYPES.get(value.dtype) if value.dtype is not None else dtype
    if dtype == "u8" and declared == "s8":
        name = context.fresh(f"{name}_u8")
    context.names[value] = name
    params = None
    if known and known[0].scale is not None and known[0].zero_point is not None:
        params = Params(known[0].scale, known[0].zero_point)
    return context.value(name, dtype, context.shape(value), params)


def pad_is_exact(node: ir.Node, params: Params) -> bool:
    """Whether what a Pad adds is a value that the quantization holds exactly."""
    if node.op_type != "Pad" or get_string(node, "mode", "constant") != "constant":
        return True
    value = np.float32(get_float(node, "value", 0.0))
    return bool(params.dequantize(params.quantize(value)) == value)


def inputs_share_params(node: ir.Node) -> Params | None:
    """The params that all inputs (each a DQ of a computed value) share, else None."""
    operands = [operand_of(x) for x in node.inputs if x is not None]
    found = {operand.params for operand in operands if operand is not None}
    if len(found) != 1 or any(operand is None or operand.is_constant for operand in operands):
        return None
    return found.pop()
