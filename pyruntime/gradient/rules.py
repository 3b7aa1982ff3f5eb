"""Derivatives of the operators: one rule each, from the gradient of the outputs to that of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph, numerics
from pyruntime.gradient.windows import average_pool, conv, max_pool

Array = npt.NDArray[Any]
Arrays = Sequence[Array]
Rule = Callable[[ir.Node, Sequence[Any], Arrays, Arrays], "list[Array | None]"]

# Width of the central difference by which functions of one number are differentiated, in float64.
STEP = 1e-4


def _unary(function: str, **settings: str) -> Rule:
    def rule(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
        name = function
        if node.op_type == "Gelu" and graph.get_string(node, "approximate", "none") == "tanh":
            name = "gelu_tanh"
        attributes = {key: graph.get_float(node, given, 0.0) for key, given in settings.items()}
        wide = x[0].astype(np.float64)
        with np.errstate(all="ignore"):
            high = numerics.FUNCTIONS[name](wide + STEP, attributes)
            low = numerics.FUNCTIONS[name](wide - STEP, attributes)
        slope = np.nan_to_num((high - low) / (2 * STEP), posinf=0.0, neginf=0.0)
        return [(dy[0] * slope).astype(np.float32)]

    return rule


def _same(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [dy[0]]


def _as_input(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [dy[0].reshape(x[0].shape)]


def _add(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [_unbroadcast(dy[0], x[0]), _unbroadcast(dy[0], x[1])]


def _sub(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [_unbroadcast(dy[0], x[0]), _unbroadcast(-dy[0], x[1])]


def _mul(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [_unbroadcast(dy[0] * x[1], x[0]), _unbroadcast(dy[0] * x[0], x[1])]


def _div(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [_unbroadcast(dy[0] / x[1], x[0]), _unbroadcast(-dy[0] * y[0] / x[1], x[1])]


def _prelu(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [np.where(x[0] < 0, dy[0] * x[1], dy[0]), None]


def _unbroadcast(gradient: Array, like: Array) -> Array:
    """Sum over the axes along which `like` was repeated."""
    extra = gradient.ndim - like.ndim
    summed = gradient.sum(axis=tuple(range(extra))) if extra else gradient
    axes = tuple(axis for axis, size in enumerate(like.shape) if size == 1 and summed.shape[axis] != 1)
    result: Array = summed.sum(axis=axes, keepdims=True) if axes else summed
    return result


def _gemm(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    weight = x[1] if graph.get_int(node, "transB", 0) else x[1].T
    return [dy[0] @ weight]


def _matmul(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    a, b = x[0], x[1]
    left = dy[0] @ np.swapaxes(b, -1, -2)
    right = None if graph.is_constant(node.inputs[1]) else np.swapaxes(a, -1, -2) @ dy[0]
    return [_unbroadcast(left, a), None if right is None else _unbroadcast(right, b)]


def _softmax(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    axis = graph.get_int(node, "axis", -1)
    return [y[0] * (dy[0] - (dy[0] * y[0]).sum(axis=axis, keepdims=True))]


def _layer_norm(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    axes = tuple(range(graph.get_int(node, "axis", -1) % x[0].ndim, x[0].ndim))
    centred = x[0] - x[0].mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + graph.get_float(node, "epsilon", 1e-5))
    normal, inner = centred * inverse, dy[0] * x[1]
    along = (inner * normal).mean(axis=axes, keepdims=True)
    return [(inner - inner.mean(axis=axes, keepdims=True) - normal * along) * inverse]


def _transpose(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    perm = graph.get_ints(node, "perm") or list(range(x[0].ndim))[::-1]
    return [dy[0].transpose(np.argsort(perm))]


def _concat(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    axis = graph.get_int(node, "axis", 0)
    edges = np.cumsum([part.shape[axis] for part in x])[:-1]
    return list(np.split(dy[0], edges, axis=axis))


def _split(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [np.concatenate(list(dy), axis=graph.get_int(node, "axis", 0))]


def _slice(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    starts, ends = graph.get_ints(node, "starts") or [], graph.get_ints(node, "ends") or []
    axes = graph.get_ints(node, "axes") or list(range(len(starts)))
    steps = graph.get_ints(node, "steps") or [1] * len(starts)
    kept = [np.arange(size) for size in x[0].shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept[axis] = kept[axis][_bounds(start, end, step)]
    gradient = np.zeros_like(x[0])
    gradient[np.ix_(*kept)] = dy[0]
    return [gradient]


def _bounds(start: int, end: int, step: int) -> slice:
    return slice(start, None if step < 0 and end < -(2**31) else end, step)


def _pad(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    if graph.get_string(node, "mode", "constant") != "constant":
        return [np.zeros_like(x[0])]
    pads, rank = graph.get_ints(node, "pads") or [], x[0].ndim
    cut = tuple(slice(max(0, pads[i]), max(0, pads[i]) + x[0].shape[i]) for i in range(rank))
    return [dy[0][cut]]


def _reduce_mean(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    axes = tuple(axis % x[0].ndim for axis in graph.get_ints(node, "axes") or range(x[0].ndim))
    shape = [1 if axis in axes else size for axis, size in enumerate(x[0].shape)]
    count = x[0].size // max(1, int(np.prod(shape)))
    return [np.broadcast_to(dy[0].reshape(shape) / count, x[0].shape)]


def _global_average(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    count = int(np.prod(x[0].shape[2:]))
    return [np.broadcast_to(dy[0] / count, x[0].shape)]


def _global_max(node: ir.Node, x: Sequence[Any], y: Arrays, dy: Arrays) -> list[Array | None]:
    return [np.where(x[0] == y[0], dy[0], np.float32(0))]


RULES: dict[str, Rule] = {
    "Conv": conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "PRelu": _prelu,
    "Identity": _same,
    "Cast": _same,
    "Relu": _unary("relu"),
    "Clip": _unary("clip", lo="min", hi="max"),
    "LeakyRelu": _unary("leaky_relu", alpha="alpha"),
    "Sigmoid": _unary("sigmoid"),
    "HardSigmoid": _unary("hard_sigmoid", alpha="alpha", beta="beta"),
    "HardSwish": _unary("hard_swish"),
    "Tanh": _unary("tanh"),
    "Gelu": _unary("gelu"),
    "Silu": _unary("silu"),
    "Exp": _unary("exp"),
    "Sqrt": _unary("sqrt"),
    "Erf": _unary("erf"),
    "Abs": _unary("abs"),
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "ReduceMean": _reduce_mean,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Reshape": _as_input,
    "Flatten": _as_input,
    "Squeeze": _as_input,
    "Unsqueeze": _as_input,
    "Transpose": _transpose,
}
