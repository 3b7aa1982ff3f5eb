"""The program: what a `.pyrt` file says and what the runtime executes (docs/format.md, sections 1 and 2).

Plain data, NumPy only. `OPERATORS` is the one list of operators and attributes; `validation` checks what a
reader may not trust.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "u8": np.dtype(np.uint8),
    "s8": np.dtype(np.int8),
    "s32": np.dtype(np.int32),
    "s64": np.dtype(np.int64),
}
RANGES: dict[str, tuple[int, int]] = {"u8": (0, 255), "s8": (-128, 127), "s32": (-(2**31), 2**31 - 1)}
MAX_RANK = 8


def dtype_name(dtype: npt.DTypeLike) -> str:
    """Program name (`f32`, `u8`, ...) of a NumPy dtype; KeyError if a program cannot hold it."""
    wanted = np.dtype(dtype)
    for name, known in DTYPES.items():
        if known == wanted:
            return name
    raise KeyError(str(wanted))


@dataclass
class Value:
    """A program input or a node output. Integers that carry reals mean `(q - zero_point) * scale`."""

    name: str
    dtype: str
    shape: list[int | str]
    scale: float | None = None
    zero_point: int | None = None


@dataclass
class Constant:
    """A stored tensor in its ONNX shape.

    Attributes:
        scheme: free text for people (`int8 per_channel`, `f32`).
        storage: what the values alone do not tell a storage codec: `group`, `hashed`, `float`, or `codes` and
            `scales` (see `pack.codecs`). Execution does not look at it.
    """

    name: str
    array: Array
    scheme: str = ""
    storage: dict[str, Any] = field(default_factory=dict)


@dataclass
class Node:
    """One operator. `inputs` may hold "" for an absent optional input; there is exactly one output."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """Nodes in execution order over named values and constants."""

    name: str
    inputs: list[str]
    outputs: list[str]
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def dtype(self, name: str) -> str:
        """dtype name of a value or constant."""
        if name in self.values:
            return self.values[name].dtype
        return dtype_name(self.constants[name].array.dtype)


@dataclass(frozen=True)
class Operator:
    """What the format allows of one operator: number of inputs, attribute kinds, required attributes.

    Kinds: `int`, `number` (int or finite float), `str`, `ints`, `numbers`. Absent `lo`, `hi`: no bound.
    """

    min_inputs: int
    max_inputs: int
    attributes: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


_CLAMP = {"lo": "number", "hi": "number"}
_RESIDUAL = {"a_multiplier": "number", "b_multiplier": "number", "add_offset": "number"}
_RESIDUAL |= {"add_lo": "number", "add_hi": "number"}
_WINDOW = {"strides": "ints", "pads": "ints", "dilations": "ints"}
_POOL = {"kernel": "ints", **_WINDOW, "ceil_mode": "int", "global": "int"}
ADD_ATTRIBUTES = {"a_multiplier": "number", "b_multiplier": "number", "offset": "number"}
MUL_ATTRIBUTES = {"a_zero_point": "int", "b_zero_point": "int", "multiplier": "number", "offset": "number"}
_RESIZE = {"mode": "str", "scales": "numbers", "sizes": "ints", "coordinate_transformation_mode": "str"}
_RESIZE |= {"nearest_mode": "str"}

OPERATORS: dict[str, Operator] = {
    "quantize": Operator(1, 1),
    "dequantize": Operator(1, 1),
    "conv": Operator(2, 5, {**_WINDOW, "groups": "int", **_CLAMP, **_RESIDUAL}, (*_WINDOW, "groups")),
    "dense": Operator(2, 5, {**_CLAMP, **_RESIDUAL}),
    "add": Operator(2, 2, {**_CLAMP, **ADD_ATTRIBUTES}),
    "sub": Operator(2, 2, _CLAMP),
    "mul": Operator(2, 2, {**_CLAMP, **MUL_ATTRIBUTES}),
    "div": Operator(2, 2, _CLAMP),
    "lut": Operator(2, 2),
    "unary": Operator(
        1,
        1,
        {"function": "str", "lo": "number", "hi": "number", "alpha": "number", "beta": "number"},
        ("function",),
    ),
    "prelu": Operator(2, 2),
    "max_pool": Operator(1, 1, _POOL),
    "average_pool": Operator(1, 1, {**_POOL, "count_include_pad": "int", "multiplier": "number"}),
    "reduce_mean": Operator(1, 1, {"axes": "ints", "keepdims": "int"}, ("axes", "keepdims")),
    "softmax": Operator(1, 1, {"axis": "int"}, ("axis",)),
    "matmul": Operator(2, 2, {**_CLAMP, "multiplier": "number", "offset": "number"}),
    "attention": Operator(
        3,
        4,
        {"heads": "int", "multiplier": "number", "output_multiplier": "number"},
        ("heads", "multiplier", "output_multiplier"),
    ),
    "layer_norm": Operator(2, 3, {"axis": "int", "epsilon": "number"}, ("axis", "epsilon")),
    "gather": Operator(2, 2, {"axis": "int"}, ("axis",)),
    "where": Operator(3, 3),
    "expand": Operator(1, 2, {"shape": "ints", "like_axes": "ints"}, ("shape",)),
    "concat": Operator(1, 65536, {"axis": "int"}, ("axis",)),
    "slice": Operator(
        1,
        2,
        {"starts": "ints", "ends": "ints", "axes": "ints", "steps": "ints", "like_axes": "ints"},
        ("starts", "ends", "axes", "steps"),
    ),
    "pad": Operator(1, 1, {"pads": "ints", "mode": "str", "value": "number"}, ("pads", "mode")),
    "reshape": Operator(1, 1, {"shape": "ints", "allowzero": "int"}, ("shape",)),
    "flatten": Operator(1, 1, {"axis": "int"}, ("axis",)),
    "squeeze": Operator(1, 1, {"axes": "ints"}, ("axes",)),
    "unsqueeze": Operator(1, 1, {"axes": "ints"}, ("axes",)),
    "transpose": Operator(1, 1, {"perm": "ints"}, ("perm",)),
    "resize": Operator(1, 1, _RESIZE, ("mode", "coordinate_transformation_mode")),
    "cast": Operator(1, 1),
}

UNARY_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "relu": (),
    "clip": (),
    "leaky_relu": ("alpha",),
    "sigmoid": (),
    "hard_sigmoid": ("alpha", "beta"),
    "hard_swish": (),
    "tanh": (),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "exp": (),
    "sqrt": (),
    "erf": (),
    "neg": (),
    "abs": (),
    "reciprocal": (),
}
PAD_MODES = ("constant", "reflect", "edge")
RESIZE_MODES = ("nearest", "linear")
COORDINATE_MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
MOVEMENT = (
    "concat",
    "slice",
    "pad",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "transpose",
    "resize",
    "expand",
    "gather",
)
