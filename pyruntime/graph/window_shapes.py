"""Shape rules of convolution and pooling (`shape_rules` says what a rule is)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pyruntime.graph.dimensions import Dim, Dims, offset_dim, unknown
from pyruntime.graph.nodes import get_int, get_ints, get_string


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
        return size if room == -1 else offset_dim(size, room + 1)
    if ceil_mode:
        return f"ceil({offset_dim(size, room)}/{stride})+1"
    return f"{offset_dim(size, room)}//{stride}+1"


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


def conv(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, weight = shapes[0], shapes[1]
    if data is None or weight is None:
        return [None]
    kernel = get_ints(node, "kernel_shape") or [int(dim) for dim in weight[2:]]
    return [[data[0], weight[0], *_windowed(node, data, kernel)]]


def conv_transpose(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, weight = shapes[0], shapes[1]
    if data is None or weight is None:
        return [None]
    result: Dims = [data[0], unknown(node, 1)]
    if isinstance(weight[1], int):
        result[1] = weight[1] * get_int(node, "group", 1)
    return [result + [unknown(node, axis) for axis in range(2, len(data))]]


def pool(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    if shapes[0] is None:
        return [None]
    kernel = get_ints(node, "kernel_shape")
    if kernel is None:
        raise ValueError("attribute 'kernel_shape' is missing")
    result: Dims = [*shapes[0][:2], *_windowed(node, shapes[0], kernel)]
    return [result] * len(node.outputs)


def global_pool(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    return [None if shapes[0] is None else [*shapes[0][:2], *([1] * (len(shapes[0]) - 2))]]
