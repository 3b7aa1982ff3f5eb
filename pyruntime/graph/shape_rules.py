"""Shape rules: dimensions of a node's outputs from those of its inputs, one function per kind of operator.

A rule gets the node and the dimensions of its inputs (None if unknown) and returns those of its outputs. It
raises ValueError (or an error of indexing) if the inputs do not fit together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import get_int, get_ints, get_string, label
from pyruntime.graph.shape_values import known_ints

Dim = int | str
Dims = list[Dim]
_Rule = Callable[[ir.Node, list[Dims | None]], "list[Dims | None]"]


def _unknown(node: ir.Node, axis: int, output: int = 0) -> str:
    return f"{node.outputs[output].name}_dim{axis}"


def ints_of(node: ir.Node, name: str, index: int) -> list[int] | None:
    """Integers given as an attribute or, in newer opsets, a constant input; else None."""
    if name in node.attributes:
        return get_ints(node, name)
    values = known_ints(node.inputs[index]) if index < len(node.inputs) else None
    if values is None or any(isinstance(value, str) for value in values):
        return None
    return [int(value) for value in values]


def _is_pending(node: ir.Node, name: str, index: int) -> bool:
    """Whether integers are given as an input whose value is not known yet (other than absent)."""
    given = index < len(node.inputs) and node.inputs[index] is not None
    return given and ints_of(node, name, index) is None


def normalize_axis(axis: int, rank_: int, node: ir.Node) -> int:
    """Axis counted from the front. Errors: ModelError if it is out of range."""
    if not -rank_ <= axis < rank_:
        raise ModelError(
            f"node {label(node)}: axis {axis} is outside a tensor of rank {rank_}; correct the model"
        )
    return axis + rank_ if axis < 0 else axis


def broadcast(node: ir.Node, shapes: Sequence[Dims]) -> Dims:
    """NumPy broadcasting of shapes with symbols; two different symbols give an unknown dimension."""
    size = max(len(shape) for shape in shapes)
    result: Dims = []
    for axis in range(size):
        at_axis = [shape[axis - size + len(shape)] for shape in shapes if axis - size + len(shape) >= 0]
        candidates = list(dict.fromkeys(dim for dim in at_axis if dim != 1))
        numbers = [dim for dim in candidates if isinstance(dim, int)]
        if len(numbers) > 1:
            raise ValueError(f"dimensions {numbers[0]} and {numbers[1]} of axis {axis} do not broadcast")
        if numbers:
            result.append(numbers[0])
        else:
            result.append(
                1 if not candidates else candidates[0] if len(candidates) == 1 else _unknown(node, axis)
            )
    return result


def window_dim(
    size: Dim, window: int, stride: int, padding: int, ceil_mode: bool = False, end_pad: int = 0
) -> Dim:
    """Output size of a sliding window: `window` cells wide (dilation included), `padding` cells added in all.

    With `ceil_mode` a last window that would start in the padding at the end (`end_pad`) is left out.
    """
    room = padding - window
    if isinstance(size, int):
        if size + room < 0:
            raise ValueError(f"a window of {window} does not fit in {size} + {padding} cells")
        if not ceil_mode:
            return (size + room) // stride + 1
        count = -(-(size + room) // stride) + 1
        begin = padding - end_pad
        return count - 1 if (count - 1) * stride >= size + begin else count
    if stride == 1:
        return size if room == -1 else _offset(size, room + 1)
    if ceil_mode:
        return f"ceil({_offset(size, room)}/{stride})+1"
    return f"{_offset(size, room)}//{stride}+1"


def _offset(size: str, amount: int) -> str:
    if amount == 0:
        return f"({size})" if "+" in size or "//" in size else size
    return f"({size}{amount:+d})"


def _windowed(node: ir.Node, data: Dims, kernel: Sequence[int]) -> Dims:
    spatial = len(kernel)
    if len(data) != spatial + 2:
        raise ValueError(f"input of rank {len(data)} with a window of rank {spatial}")
    strides = get_ints(node, "strides") or [1] * spatial
    dilations = get_ints(node, "dilations") or [1] * spatial
    pads = get_ints(node, "pads") or [0] * (2 * spatial)
    auto_pad = get_string(node, "auto_pad", "NOTSET")
    ceil_mode = bool(get_int(node, "ceil_mode", 0))
    result: Dims = []
    for axis in range(spatial):
        size, stride = data[axis + 2], strides[axis]
        window = (kernel[axis] - 1) * dilations[axis] + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            same = (
                -(-size // stride)
                if isinstance(size, int)
                else size
                if stride == 1
                else f"ceil({size}/{stride})"
            )
            result.append(same)
            continue
        begin, end = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[axis + spatial])
        result.append(window_dim(size, window, stride, begin + end, ceil_mode, end))
    return result


def _conv(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, weight = shapes[0], shapes[1]
    if data is None or weight is None:
        return [None]
    kernel = get_ints(node, "kernel_shape") or [int(dim) for dim in weight[2:]]
    return [[data[0], weight[0], *_windowed(node, data, kernel)]]


def _conv_transpose(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, weight = shapes[0], shapes[1]
    if data is None or weight is None:
        return [None]
    result: Dims = [data[0], _unknown(node, 1)]
    if isinstance(weight[1], int):
        result[1] = weight[1] * get_int(node, "group", 1)
    return [result + [_unknown(node, axis) for axis in range(2, len(data))]]


def _pool(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    if shapes[0] is None:
        return [None]
    kernel = get_ints(node, "kernel_shape")
    if kernel is None:
        raise ValueError("attribute 'kernel_shape' is missing")
    result: Dims = [*shapes[0][:2], *_windowed(node, shapes[0], kernel)]
    return [result] * len(node.outputs)


def _global_pool(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    return [None if shapes[0] is None else [*shapes[0][:2], *([1] * (len(shapes[0]) - 2))]]


def _same(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    return [shapes[0]]


def _elementwise(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    known = [shape for shape in shapes if shape is not None]
    return [broadcast(node, known)] if len(known) == len(shapes) else [None]


def _gemm(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    a, b = shapes[0], shapes[1]
    if a is None or b is None:
        return [None]
    rows, inner = (a[1], a[0]) if get_int(node, "transA", 0) else (a[0], a[1])
    columns, other = (b[0], b[1]) if get_int(node, "transB", 0) else (b[1], b[0])
    inner = a[-1] if len(a) > 2 else inner  # a canonical Gemm takes tensors of any rank
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise ValueError(f"{inner} columns times {other} rows")
    return [[*a[:-1], columns] if len(a) > 2 else [rows, columns]]


def _matmul(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    a, b = shapes[0], shapes[1]
    if a is None or b is None:
        return [None]
    left, right = ([1, *a] if len(a) == 1 else a), ([*b, 1] if len(b) == 1 else b)
    if isinstance(left[-1], int) and isinstance(right[-2], int) and left[-1] != right[-2]:
        raise ValueError(f"{left[-1]} columns times {right[-2]} rows")
    batch = broadcast(node, [left[:-2], right[:-2]])
    return [batch + ([] if len(a) == 1 else [left[-2]]) + ([] if len(b) == 1 else [right[-1]])]


def _attention(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    q, v = shapes[0], shapes[2]
    return [None if q is None or v is None else [*q[:2], v[2]]]


def _concat(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or not known:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 1), len(known[0]), node)
    result = list(known[0])
    for position in range(len(result)):
        at_axis = [shape[position] for shape in known]
        numbers = {dim for dim in at_axis if isinstance(dim, int)}
        if position == axis:
            result[position] = (
                sum(numbers_of(at_axis)) if len(numbers_of(at_axis)) == len(at_axis) else _unknown(node, axis)
            )
        elif len(numbers) > 1:
            raise ValueError(f"dimensions {sorted(numbers)} of axis {position} differ")
        elif numbers:
            result[position] = numbers.pop()
    return [result]


def numbers_of(values: Sequence[Dim]) -> list[int]:
    """The entries that are integers."""
    return [value for value in values if isinstance(value, int)]


def _split(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 0), len(data), node)
    sizes: Sequence[Dim] | None = ints_of(node, "split", 1)
    if _is_pending(node, "split", 1):
        sizes = [_unknown(node, axis, part) for part in range(len(node.outputs))]
    if sizes is None:
        total, parts = data[axis], len(node.outputs)
        sizes = [_unknown(node, axis, part) for part in range(parts)]
        if isinstance(total, int):
            chunk = -(-total // parts)
            sizes = [max(0, min(chunk, total - part * chunk)) for part in range(parts)]
    elif (
        isinstance(data[axis], int)
        and len(numbers_of(sizes)) == len(sizes)
        and sum(numbers_of(sizes)) != data[axis]
    ):
        raise ValueError(f"parts {list(sizes)} of a dimension of {data[axis]}")
    return [[*data[:axis], size, *data[axis + 1 :]] for size in sizes]


def _slice(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    if data is None:
        return [None]
    axes = ints_of(node, "axes", 3)
    if axes is None and (len(node.inputs) < 4 or node.inputs[3] is None) and starts is not None:
        axes = list(range(len(starts)))
    result = list(data)
    if axes is None:
        return [[_unknown(node, axis) for axis in range(len(data))]]
    steps = ints_of(node, "steps", 4) or [1] * len(axes)
    for position, axis in enumerate(normalize_axis(axis, len(data), node) for axis in axes):
        size = data[axis]
        if "like_axes" in node.attributes and (get_ints(node, "like_axes") or [])[position] >= 0:
            # Up to a dimension of another tensor: that dimension, for a start of 0 and data that is as long.
            like = _like_dim(node, shapes, (get_ints(node, "like_axes") or [])[position], axis)
            whole = starts is not None and starts[position] == 0 and steps[position] == 1
            result[axis] = like if whole else _unknown(node, axis)
        elif starts is None or ends is None:
            result[axis] = _pending_end(node, position, steps) or _unknown(node, axis)
        elif isinstance(size, int):
            result[axis] = len(
                range(*slice(_bound(starts[position]), _bound(ends[position]), steps[position]).indices(size))
            )
        elif steps[position] > 1 and starts[position] in range(steps[position]) and ends[position] >= 1 << 30:
            result[axis] = f"ceil({_offset(size, -starts[position])}/{steps[position]})"
        elif not (starts[position] == 0 and ends[position] >= 1 << 30 and steps[position] == 1):
            result[axis] = _unknown(node, axis)
    return [result]


def _pending_end(node: ir.Node, position: int, steps: Sequence[int]) -> Dim | None:
    """The symbol a Slice from 0 ends at."""
    starts = ints_of(node, "starts", 1)
    ends = known_ints(node.inputs[2]) if len(node.inputs) > 2 else None
    if starts is None or ends is None or starts[position] != 0 or steps[position] != 1:
        return None
    return ends[position]


def _bound(bound: int) -> int | None:
    return None if bound <= -(1 << 62) else bound


def _pad(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, pads = shapes[0], ints_of(node, "pads", 1)
    if data is None:
        return [None]
    axes = ints_of(node, "axes", 3) or list(range(len(data)))
    if pads is None or _is_pending(node, "axes", 3):
        return [[_unknown(node, axis) for axis in range(len(data))]]
    if len(pads) != 2 * len(axes):
        raise ValueError(f"{len(pads)} pads for {len(axes)} axes")
    result = list(data)
    for position, axis in enumerate(normalize_axis(axis, len(data), node) for axis in axes):
        size, amount = data[axis], pads[position] + pads[position + len(axes)]
        if amount:
            result[axis] = size + amount if isinstance(size, int) else _offset(size, amount)
    return [result]


def product(values: Sequence[Dim]) -> Dim | None:
    """Product of dimensions: a symbol if it is the only factor, None if it has no simple form."""
    number = math.prod(numbers_of(values))
    symbols = [value for value in values if isinstance(value, str)]
    if not symbols:
        return number
    return symbols[0] if len(symbols) == 1 and number == 1 else None


def _flatten(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [[_unknown(node, 0), _unknown(node, 1)]]
    axis = get_int(node, "axis", 1)
    axis = axis + len(data) if axis < 0 else axis
    parts = [product(data[:axis]), product(data[axis:])]
    return [[_unknown(node, index) if part is None else part for index, part in enumerate(parts)]]


def _reshape(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    target: Sequence[Dim] | None = get_ints(node, "shape") or None
    if target is None and "shape" not in node.attributes:
        target = known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if target is None:
        return [[]] if "shape" in node.attributes else [None]
    if data is None:
        return [[_unknown(node, axis) if dim in (0, -1) else dim for axis, dim in enumerate(target)]]
    allow_zero = bool(get_int(node, "allowzero", 0))
    result = [data[axis] if dim == 0 and not allow_zero else dim for axis, dim in enumerate(target)]
    if -1 in result:
        axis = result.index(-1)
        result[axis] = _remaining(data, result[:axis] + result[axis + 1 :], _unknown(node, axis))
    elif not any(isinstance(dim, str) for dim in [*data, *result]) and product(data) != product(result):
        raise ValueError(f"shape {data} cannot become {list(result)}")
    return [list(result)]


def _remaining(data: Sequence[Dim], others: Sequence[Dim], unknown: str) -> Dim:
    rest = [dim for dim in data if isinstance(dim, str)]
    for dim in others:
        if isinstance(dim, str):
            if dim not in rest:
                return unknown
            rest.remove(dim)
    have, need = math.prod(numbers_of(data)), math.prod(numbers_of(others))
    if need == 0 or (not rest and have % need):
        raise ValueError(f"{have} elements cannot be split into parts of {need}")
    if rest:
        return rest[0] if len(rest) == 1 and have == need else unknown
    return have // need


def _transpose(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    perm = get_ints(node, "perm") or list(reversed(range(len(data))))
    if sorted(perm) != list(range(len(data))):
        raise ValueError(f"perm {perm} of a tensor of rank {len(data)}")
    return [[data[axis] for axis in perm]]


def _squeeze(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None or _is_pending(node, "axes", 1):
        return [None]
    axes = ints_of(node, "axes", 1)
    if axes is None:
        axes = [axis for axis, dim in enumerate(data) if dim == 1]
    axes = [normalize_axis(axis, len(data), node) for axis in axes]
    return [[dim for axis, dim in enumerate(data) if axis not in axes]]


def _unsqueeze(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, axes = shapes[0], ints_of(node, "axes", 1)
    if data is None or axes is None:
        return [None]
    size = len(data) + len(axes)
    axes = [normalize_axis(axis, size, node) for axis in axes]
    rest = iter(data)
    return [[1 if axis in axes else next(rest) for axis in range(size)]]


def _reduce(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None or _is_pending(node, "axes", 1):
        return [None]
    axes = ints_of(node, "axes", 1)
    if not axes:
        if get_int(node, "noop_with_empty_axes", 0):
            return [data]
        axes = list(range(len(data)))
    axes = [normalize_axis(axis, len(data), node) for axis in axes]
    keep = get_int(node, "keepdims", 1)
    return [[1 if axis in axes else dim for axis, dim in enumerate(data) if keep or axis not in axes]]


def _resize(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    sizes = ints_of(node, "sizes", 3)
    if sizes:
        return [list(sizes)] if len(sizes) == len(data) else [None]
    scales: Sequence[float] | None = None
    if "scales" in node.attributes:
        scales = node.attributes["scales"].as_floats()
    elif len(node.inputs) > 1:
        array = constant(node.inputs[2] if len(node.inputs) > 2 else node.inputs[1])
        scales = None if array is None else [float(item) for item in array.reshape(-1)]
    if not scales or len(scales) != len(data):
        return [[_unknown(node, axis) for axis in range(len(data))]]
    result: Dims = []
    for axis, (dim, scale) in enumerate(zip(data, scales, strict=True)):
        # ONNX: floor(size * scale), the scale a float32.
        if isinstance(dim, int):
            result.append(math.floor(np.float32(dim) * np.float32(scale)))
        else:
            whole = float(scale).is_integer()
            result.append(dim if scale == 1 else f"{int(scale)}*({dim})" if whole else _unknown(node, axis))
    return [result]


def _shape_op(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    if shapes[0] is None:
        return [[_unknown(node, 0)]]
    length = len(shapes[0])
    start, end = get_int(node, "start", 0), get_int(node, "end", length)
    return [[len(range(*slice(start, end).indices(length)))]]


def _gather(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, indices = shapes[0], shapes[1]
    if data is None or indices is None:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 0), len(data), node)
    return [[*data[:axis], *indices, *data[axis + 1 :]]]


def _constant_of_shape(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    target = known_ints(node.inputs[0])
    return [None if target is None else list(target)]


def _expand(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    """To a shape that is an input, or to attributes `shape` and `like_axes` (canonical form)."""
    data = shapes[0]
    target: Dims | None = list(get_ints(node, "shape") or []) or None
    if "shape" not in node.attributes:
        target = known_ints(node.inputs[1])
    if data is None or target is None:
        return [None]
    for position, axis in enumerate(get_ints(node, "like_axes") or []):
        if axis >= 0:
            target[position] = _like_dim(node, shapes, axis, position)
    return [broadcast(node, [data, target])]


def _like_dim(node: ir.Node, shapes: list[Dims | None], axis: int, position: int) -> Dim:
    like = shapes[1] if len(shapes) > 1 else None
    return _unknown(node, position) if like is None else like[axis]


_UNARY = [
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Gelu",
    "Silu",
    "Softmax",
    "LogSoftmax",
    "Exp",
    "Log",
    "Sqrt",
    "Erf",
    "Neg",
    "Abs",
    "Reciprocal",
    "Floor",
    "Ceil",
    "Round",
    "Softplus",
    "Elu",
    "Selu",
    "Cast",
    "Identity",
    "Dropout",
    "BatchNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
    "LRN",
    "InstanceNormalization",
    "LayerNormalization",
    "Mish",
    "Not",
    "IsNaN",
]
_BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Min", "Max", "Sum", "Mean", "Mod"]
_BINARY += ["Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"]

RULES: dict[str, _Rule] = {
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BINARY, _elementwise),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Attention": _attention,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "Resize": _resize,
    "Upsample": _resize,
    "Shape": _shape_op,
    "Gather": _gather,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
}
