"""What a reader may not trust about a program: names, dtypes, order, attributes, shapes of constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyruntime.errors import FileFormatError
from pyruntime.program import (
    ADD_ATTRIBUTES,
    COORDINATE_MODES,
    DTYPES,
    MAX_RANK,
    MOVEMENT,
    MUL_ATTRIBUTES,
    NEAREST_MODES,
    OPERATORS,
    PAD_MODES,
    RANGES,
    RESIZE_MODES,
    UNARY_FUNCTIONS,
    Node,
    Program,
    Value,
)

_KNOWN_DTYPES = frozenset(DTYPES.values())
_LARGEST_F32 = float(np.finfo(np.float32).max)
# Movement whose second input is not moved: indices, or a value that gives its shape alone.
_MOVES_FIRST = ("slice", "expand", "gather")


def validate(program: Program, where: str = "program") -> None:
    """Checks names, dtypes, order, attributes and the shapes of constants.

    Raises FileFormatError, one line that begins with `where` (the reader passes the file name).
    """
    try:
        _check_values(program)
        _check_flow(program)
        for node in program.nodes:
            _check_attributes(node)
            _check_operator(program, node)
    except _Violation as violation:
        raise FileFormatError(f"{where}: {str(violation)[:300]}") from None


class _Violation(Exception):
    """Internal: what is wrong, without the name of the file."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _Violation(message)


def _check_values(program: Program) -> None:
    for key, value in program.values.items():
        item = f"value {key!r}"
        _require(isinstance(key, str) and key != "" and value.name == key, f"{item}: name must be its key")
        _require(value.dtype in DTYPES, f"{item}: dtype {value.dtype!r}, expected one of {', '.join(DTYPES)}")
        _require(
            isinstance(value.shape, list) and len(value.shape) <= MAX_RANK, f"{item}: rank above {MAX_RANK}"
        )
        for size in value.shape:
            ok = (isinstance(size, str) and size != "") or (_is_int(size) and 0 <= int(size) < 2**31)
            _require(ok, f"{item}: dimension {size!r}, expected a count or a symbol")
        _check_quantization(item, value)
    for key, constant in program.constants.items():
        item = f"constant {key!r}"
        _require(isinstance(key, str) and key != "" and constant.name == key, f"{item}: name must be its key")
        _require(key not in program.values, f"{item}: a value has the same name")
        _require(isinstance(constant.array, np.ndarray), f"{item}: not an array")
        dtype = constant.array.dtype
        if dtype not in _KNOWN_DTYPES:  # to name a dtype takes NumPy longer than all the rest
            raise _Violation(f"{item}: dtype {dtype}, expected one of {', '.join(DTYPES)}")
        _require(isinstance(constant.scheme, str), f"{item}: scheme must be text")


def _check_quantization(item: str, value: Value) -> None:
    if value.scale is None and value.zero_point is None:
        return
    _require(value.dtype in RANGES, f"{item}: dtype {value.dtype} cannot have a scale or zero_point")
    scale, zero_point = value.scale, value.zero_point
    ok = isinstance(scale, float) and math.isfinite(scale) and 0 < scale <= _LARGEST_F32
    _require(ok and float(np.float32(scale)) == scale, f"{item}: scale {scale!r}, expected a float32 above 0")
    low, high = RANGES[value.dtype]
    ok = _is_int(zero_point) and low <= int(zero_point or 0) <= high
    _require(ok, f"{item}: zero_point {zero_point!r}, expected {low}..{high}")


def _check_flow(program: Program) -> None:
    """Every input is defined before its use, every value has exactly one producer."""
    _require(isinstance(program.name, str), "the program's name must be text")
    defined: set[str] = set()
    for name in program.inputs:
        _require(name in program.values, f"input {name!r} is not described in values")
        _require(name not in defined, f"input {name!r} is listed twice")
        defined.add(name)
    names: set[str] = set()
    for node in program.nodes:
        item = f"node {node.name!r}"
        _require(isinstance(node.name, str) and node.name != "", f"{item}: a node needs a name")
        _require(node.name not in names, f"{item}: name used twice")
        names.add(node.name)
        for name in node.inputs:
            ok = isinstance(name, str) and (name == "" or name in defined or name in program.constants)
            _require(ok, f"{item}: input {name!r} is neither a constant nor the output of an earlier node")
        for name in node.outputs:
            ok = isinstance(name, str) and name in program.values
            _require(ok, f"{item}: output {name!r} is not described in values")
            _require(name not in defined, f"{item}: output {name!r} already has a producer")
            defined.add(name)
    _require(bool(program.outputs), "the program has no output")
    _require(len(set(program.outputs)) == len(program.outputs), "an output is listed twice")
    for name in program.outputs:
        _require(name in defined, f"output {name!r} is not made by any node")
    for name in program.values:
        _require(name in defined, f"value {name!r} has no producer")


def _is_int(x: object) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool) and abs(int(x)) < 2**63


def _is_number(x: object) -> bool:
    return _is_int(x) or (isinstance(x, float) and math.isfinite(x))


_KINDS: dict[str, Any] = {
    "int": _is_int,
    "number": _is_number,
    "str": lambda x: isinstance(x, str),
    "ints": lambda x: isinstance(x, list) and all(map(_is_int, x)),
    "numbers": lambda x: isinstance(x, list) and all(map(_is_number, x)),
}


def _check_attributes(node: Node) -> None:
    item = f"node {node.name!r}"
    _require(isinstance(node.op, str) and node.op in OPERATORS, f"{item}: unknown operator {node.op!r}")
    operator = OPERATORS[node.op]
    count = len(node.inputs)
    ok = operator.min_inputs <= count <= operator.max_inputs
    _require(
        ok, f"{item}: {node.op} has {count} inputs, expected {operator.min_inputs}..{operator.max_inputs}"
    )
    _require(len(node.outputs) == 1, f"{item}: {len(node.outputs)} outputs, expected 1")
    for key, attribute in node.attributes.items():
        kind = operator.attributes.get(key)
        if kind is None:
            raise _Violation(f"{item}: {node.op} has no attribute {key!r}")
        if not _KINDS[kind](attribute):
            raise _Violation(f"{item}: attribute {key!r} is {attribute!r:.60}, expected {kind}")
    for key in operator.required:
        _require(key in node.attributes, f"{item}: attribute {key!r} of {node.op} is missing")


def _check_operator(program: Program, node: Node) -> None:
    """What the shapes of constants and the dtypes of the inputs must satisfy for this operator."""
    item = f"node {node.name!r}"
    dtypes = [program.dtype(name) if name else "" for name in node.inputs]
    out = program.values[node.outputs[0]]
    for position in range(OPERATORS[node.op].min_inputs):
        _require(dtypes[position] != "", f"{item}: input {position} is absent")
    if node.op in ("conv", "dense"):
        _check_conv(program, node, item, dtypes, out)
    elif node.op in MOVEMENT:
        _check_movement(program, node, item, out)
    elif node.op in ("max_pool", "average_pool"):
        _check_pool(program, node, item, dtypes, out)
    elif node.op == "lut":
        table = program.constants.get(node.inputs[1])
        _require(
            table is not None and table.array.shape == (256,), f"{item}: the table must be a constant [256]"
        )
        ok = dtypes[0] in ("u8", "s8") and dtypes[1] in ("u8", "s8") and dtypes[1] == out.dtype
        _require(ok, f"{item}: lut of {dtypes[0]} by {dtypes[1]} to {out.dtype}, expected u8 or s8")
    elif node.op == "quantize":
        _require(dtypes[0] == "f32" and out.dtype in ("u8", "s8"), f"{item}: {dtypes[0]} to {out.dtype}")
        _require(out.scale is not None, f"{item}: output {out.name!r} has no scale")
    elif node.op == "dequantize":
        _require(dtypes[0] in RANGES and out.dtype == "f32", f"{item}: {dtypes[0]} to {out.dtype}")
        _require(
            _scale(program, node.inputs[0]) is not None, f"{item}: input {node.inputs[0]!r} has no scale"
        )
    elif node.op == "cast":
        _require(out.dtype == "f32", f"{item}: cast to {out.dtype}, expected f32")
    elif node.op in ("add", "mul") and "u8" in (*dtypes, out.dtype):
        _require(
            dtypes == ["u8", "u8"] and out.dtype == "u8", f"{item}: {dtypes} to {out.dtype}, expected u8"
        )
        for key in ADD_ATTRIBUTES if node.op == "add" else MUL_ATTRIBUTES:
            _require(key in node.attributes, f"{item}: attribute {key!r} of integer {node.op} is missing")
    elif node.op == "attention" or (node.op == "matmul" and "u8" in dtypes):
        _check_product(program, node, item, dtypes, out)
    elif node.op == "layer_norm":
        _check_layer_norm(program, node, item, dtypes, out)
    else:
        ok = all(dtype == "f32" for dtype in (*dtypes, out.dtype))
        _require(ok, f"{item}: {node.op} of {', '.join(dtypes)} to {out.dtype}, expected f32")
        _check_float(node, item)


def _scale(program: Program, name: str) -> float | None:
    return program.values[name].scale if name in program.values else None


def _check_float(node: Node, item: str) -> None:
    extra = [key for key in (*ADD_ATTRIBUTES, *MUL_ATTRIBUTES) if key in node.attributes]
    _require(
        not extra or node.op not in ("add", "mul"), f"{item}: attribute {extra[:1]} on a float {node.op}"
    )
    if node.op == "unary":
        function = node.attributes["function"]
        _require(function in UNARY_FUNCTIONS, f"{item}: unknown function {function!r}")
        for key in UNARY_FUNCTIONS[function]:
            _require(key in node.attributes, f"{item}: attribute {key!r} of {function} is missing")


def _check_conv(program: Program, node: Node, item: str, dtypes: list[str], out: Value) -> None:
    weight = program.constants.get(node.inputs[1])
    _require(weight is not None, f"{item}: the weight must be a constant")
    assert weight is not None
    shape = weight.array.shape
    ranks = (2,) if node.op == "dense" else (3, 4)
    _require(len(shape) in ranks, f"{item}: weight {weight.name!r} has rank {len(shape)}, expected {ranks}")
    if node.op == "conv":
        _check_window(node, item, len(shape) - 2)
        groups = node.attributes["groups"]
        _require(groups >= 1 and shape[0] % groups == 0, f"{item}: {shape[0]} outputs in {groups} groups")
    integer = dtypes[0] == "u8"
    expected = ["u8", "s8", "f32", "f32", "u8"] if integer else ["f32", "f32", "f32", "f32"]
    count = len(dtypes)
    low, high = (4, 5) if integer else (2, 4)
    _require(low <= count <= high, f"{item}: {count} inputs, expected {low}..{high}")
    for position, dtype in enumerate(dtypes):
        absent = dtype == "" and position >= (4 if integer else 2)
        ok = absent or dtype == expected[position]
        _require(ok, f"{item}: input {position} is {dtype or 'absent'}, expected {expected[position]}")
    for position in (2, 3) if integer else (2,):
        if count > position and node.inputs[position]:
            vector = program.constants.get(node.inputs[position])
            ok = vector is not None and vector.array.shape == (shape[0],)
            _require(ok, f"{item}: input {position} must be a constant [{shape[0]}]")
            ok = vector is not None and bool(np.isfinite(vector.array).all())
            _require(ok or not integer, f"{item}: input {position} is not finite")
    residual = count > 4 and dtypes[4] != ""
    _require(out.dtype == "f32" or (integer and out.dtype == "u8"), f"{item}: output is {out.dtype}")
    if integer:
        _require(
            _scale(program, node.inputs[0]) is not None, f"{item}: input {node.inputs[0]!r} has no scale"
        )
        _require(not (residual and out.dtype == "f32"), f"{item}: a residual needs a u8 output")
    for key in ("a_multiplier", "b_multiplier", "add_offset"):
        _require(
            (key in node.attributes) == (integer and residual), f"{item}: attribute {key!r} and residual"
        )


def _check_window(node: Node, item: str, rank: int) -> None:
    for key, length, least in (("strides", rank, 1), ("dilations", rank, 1), ("pads", 2 * rank, 0)):
        numbers = node.attributes.get(key, [])
        ok = len(numbers) == length and all(least <= n < 2**31 for n in numbers)
        _require(ok, f"{item}: {key} {numbers!r:.60}, expected {length} numbers from {least}")


def _check_pool(program: Program, node: Node, item: str, dtypes: list[str], out: Value) -> None:
    ok = dtypes[0] in ("u8", "f32") and dtypes[0] == out.dtype
    _require(ok, f"{item}: {node.op} of {dtypes[0]} to {out.dtype}, expected u8 or f32 for both")
    if node.attributes.get("global", 0) != 1:
        kernel = node.attributes.get("kernel", [])
        ok = len(kernel) in (1, 2) and all(1 <= k < 2**31 for k in kernel)
        _require(ok, f"{item}: kernel {kernel!r:.60}, expected 1 or 2 numbers from 1")
        _check_window(node, item, len(kernel))
    if node.op == "average_pool" and out.dtype == "u8":
        _require("multiplier" in node.attributes, f"{item}: attribute 'multiplier' is missing")
        ok = out.scale is not None and _scale(program, node.inputs[0]) is not None
        _require(ok, f"{item}: integer average_pool needs scales of input and output")
    elif node.op == "max_pool":
        _check_same_quantization(program, node, item, out)


def _check_movement(program: Program, node: Node, item: str, out: Value) -> None:
    _check_same_quantization(program, node, item, out)
    attributes = node.attributes
    if node.op == "slice":
        lengths = {len(attributes[key]) for key in ("starts", "ends", "axes", "steps")}
        _require(len(lengths) == 1, f"{item}: starts, ends, axes, steps differ in length")
        _require(all(step != 0 for step in attributes["steps"]), f"{item}: step 0")
        _check_like(node, item, len(attributes["axes"]))
    elif node.op == "expand":
        sizes = attributes["shape"]
        _require(all(0 <= size < 2**31 for size in sizes), f"{item}: shape {sizes!r:.60}, expected counts")
        _check_like(node, item, len(sizes))
    elif node.op == "gather":
        kind = program.dtype(node.inputs[1])
        _require(kind in ("s64", "s32"), f"{item}: indices are {kind}, expected s64 or s32")
    elif node.op == "pad":
        _require(
            attributes["mode"] in PAD_MODES, f"{item}: mode {attributes['mode']!r}, expected {PAD_MODES}"
        )
        _require(len(attributes["pads"]) % 2 == 0, f"{item}: odd number of pads")
    elif node.op == "resize":
        known = (("mode", RESIZE_MODES), ("coordinate_transformation_mode", COORDINATE_MODES))
        for key, choices in (*known, ("nearest_mode", NEAREST_MODES)):
            choice = attributes.get(key, choices[0])
            _require(choice in choices, f"{item}: {key} {choice!r}, expected one of {', '.join(choices)}")
        _require(("scales" in attributes) != ("sizes" in attributes), f"{item}: needs scales or sizes")
        ok = all(0 < s < 2**31 for s in attributes.get("scales", []))
        ok = ok and all(0 <= s < 2**31 for s in attributes.get("sizes", []))
        _require(ok, f"{item}: scales and sizes must be above 0 and below 2^31")
        ok = attributes["mode"] == "nearest" or out.dtype == "f32"
        _require(ok, f"{item}: linear resize of {out.dtype}, expected f32")
    elif node.op == "reshape":
        shape = attributes["shape"]
        ok = all(-1 <= size < 2**31 for size in shape) and shape.count(-1) <= 1
        _require(ok, f"{item}: shape {shape!r:.60}, expected counts and at most one -1")
    elif node.op == "transpose":
        perm = attributes["perm"]
        _require(sorted(perm) == list(range(len(perm))), f"{item}: perm {perm!r:.60} is not a permutation")


def _check_like(node: Node, item: str, axes: int) -> None:
    like = node.attributes.get("like_axes", [])
    given = len(node.inputs) > 1 and node.inputs[1] != ""
    ok = (not like and not given) or (given and len(like) == axes and all(-1 <= a < MAX_RANK for a in like))
    _require(ok, f"{item}: like_axes {like!r:.60}, expected {axes} axes of a second input, or neither")


def _check_product(program: Program, node: Node, item: str, dtypes: list[str], out: Value) -> None:
    """Integer matmul, and attention."""
    operands = 2 if node.op == "matmul" else 3
    _require(dtypes[:operands] == ["u8"] * operands, f"{item}: {node.op} of {', '.join(dtypes)}, expected u8")
    _require(out.dtype in ("u8", "f32"), f"{item}: output is {out.dtype}, expected u8 or f32")
    for name in node.inputs[:operands]:
        known = name in program.values and _scale(program, name) is not None
        _require(known, f"{item}: input {name!r} must be a computed value with a scale")
    keys = ("multiplier", "offset") if node.op == "matmul" else ("multiplier", "output_multiplier")
    for key in keys:
        _require(key in node.attributes, f"{item}: attribute {key!r} of integer {node.op} is missing")
    if node.op == "attention":
        _require(dtypes[3:] in ([], [""], ["f32"]), f"{item}: the mask must be f32")
        _require(node.attributes["heads"] >= 1, f"{item}: heads must be at least 1")
        _require(out.dtype == "f32" or out.scale is not None, f"{item}: output {out.name!r} has no scale")


def _check_layer_norm(program: Program, node: Node, item: str, dtypes: list[str], out: Value) -> None:
    _require(dtypes[0] == "f32" and out.dtype in ("f32", "u8"), f"{item}: {dtypes[0]} to {out.dtype}")
    _require(out.dtype == "f32" or out.scale is not None, f"{item}: output {out.name!r} has no scale")
    _require(node.attributes["epsilon"] >= 0, f"{item}: epsilon must not be negative")
    for position in range(1, len(node.inputs)):
        if position == 2 and node.inputs[2] == "":
            continue
        parameter = program.constants.get(node.inputs[position])
        ok = parameter is not None and parameter.array.dtype == np.float32
        _require(ok, f"{item}: input {position} must be an f32 constant")


def _check_same_quantization(program: Program, node: Node, item: str, out: Value) -> None:
    for name in node.inputs[: 1 if node.op in _MOVES_FIRST else None]:
        same = program.dtype(name) == out.dtype
        if same and name in program.values:
            value = program.values[name]
            same = (value.scale, value.zero_point) == (out.scale, out.zero_point)
        _require(same, f"{item}: {node.op} must keep dtype, scale and zero_point of {name!r}")
