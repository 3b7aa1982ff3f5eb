"""ConvTranspose -> Conv with an output channel per phase of the stride, interleaved by Reshape and Transpose.

Output cell `t` of the full (uncropped) result sums `x[i] * w[k]` over `i * stride + k * dilation = t`. With
`t = q * stride + r` that is for each phase `r` an ordinary convolution over `q` with the taps
`k * dilation = m * stride + r`, at `x[q - m]` (Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", 2016). So pruning, quantization, kernels and export see layers they know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant, is_constant
from pyruntime.graph.nodes import (
    AttributeValue,
    get_int,
    get_ints,
    get_string,
    has_attribute,
    insert_before,
    label,
    owner,
    replace_node,
    sole_consumer,
    topological_nodes,
)
from pyruntime.graph.shapes import Dims, dims

# They act on each cell alone, so they move in front of the interleaving, where they fuse with the Conv.
_CELLWISE = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Silu", "Tanh", "Gelu")


@dataclass(frozen=True)
class _Axis:
    """One spatial axis: its settings in ONNX's words, and the convolution per phase that they come to."""

    kernel: int
    stride: int
    dilation: int
    begin: int  # cells cropped from the full result
    end: int  # cells cropped from it, negative: cells of zero sum added

    @property
    def taps(self) -> int:
        """Taps of the convolution: the largest `m` and one."""
        return (self.kernel - 1) * self.dilation // self.stride + 1

    @property
    def first(self) -> int:
        """The first `q` that is not cropped."""
        return self.begin // self.stride

    @property
    def beyond(self) -> int:
        """The last `q` less the last cell of the input."""
        return ((self.kernel - 1) * self.dilation - self.end) // self.stride

    @property
    def pads(self) -> tuple[int, int]:
        return max(self.taps - 1 - self.first, 0), max(self.beyond, 0)

    @property
    def crop(self) -> tuple[int, int]:
        """Cells to cut from the interleaved phases."""
        skipped = self.first - (self.taps - 1 - self.pads[0])
        behind = (self.pads[1] + 1) * self.stride - ((self.kernel - 1) * self.dilation + 1 - self.end)
        return skipped * self.stride + self.begin % self.stride, behind


def run(model: ir.Model) -> bool:
    """Rewrite every ConvTranspose whose weight is constant and whose plane has a known size."""
    changed = False
    for node in topological_nodes(model):
        if node.op_type == "ConvTranspose" and node.domain == "" and _is_ready(node):
            _rewrite(node)
            changed = True
    return changed


def _is_ready(node: ir.Node) -> bool:
    weight, data = constant(node.inputs[1]), dims(node.inputs[0])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return (
        weight is not None
        and weight.dtype == np.float32
        and weight.ndim in (3, 4)
        and data is not None
        and len(data) == weight.ndim
        and all(isinstance(dim, int) for dim in data[2:])
        and (bias is None or is_constant(bias))
    )


def _rewrite(node: ir.Node) -> None:
    weight, data = constant(node.inputs[1]), dims(node.inputs[0])
    assert weight is not None and data is not None
    group = get_int(node, "group", 1)
    _check_channels(node, weight, data, group)
    axes = _axes(node, list(weight.shape[2:]), data)
    phases = int(np.prod([axis.stride for axis in axes]))
    graph = owner(node)
    inputs = [
        node.inputs[0],
        add_initializer(graph, f"{node.name}_weight", _phase_weight(weight, group, axes)),
    ]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant(node.inputs[2])
        assert bias is not None
        inputs.append(add_initializer(graph, f"{node.name}_bias", np.repeat(bias, phases)))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": [axis.taps for axis in axes],
        "strides": [1] * len(axes),
        "dilations": [1] * len(axes),
        "pads": [axis.pads[0] for axis in axes] + [axis.pads[1] for axis in axes],
        "group": group,
    }
    conv = insert_before(node, "Conv", inputs, attributes, name=node.name)
    last = node
    after = sole_consumer(node.outputs[0])
    value = conv.outputs[0]
    if (
        after is not None
        and after.domain in ("", "pyruntime")
        and after.op_type in _CELLWISE
        and _alone(after)
    ):
        last = after
        value = _copy(after, value, before=node)
    if phases > 1:
        value = _interleave(node, value, weight.shape[1] * group, axes, data)
    value = _crop(node, value, axes)
    replace_node(last, value)
    if last is not node:
        owner(node).remove(node, safe=True)


def _alone(node: ir.Node) -> bool:
    return len([value for value in node.inputs if value is not None]) == 1


def _copy(node: ir.Node, value: ir.Value, before: ir.Node) -> ir.Value:
    """The same operator on another value."""
    copy = insert_before(before, node.op_type, [value], name=node.name, domain=node.domain)
    for name, attribute in node.attributes.items():
        copy.attributes[name] = attribute
    return copy.outputs[0]


def _phase_weight(weight: Array, group: int, axes: Sequence[_Axis]) -> Array:
    """`[C, O/group, k...]` -> `[O * phases, C/group, taps...]`, phases of a channel side by side."""
    inputs, outputs = weight.shape[0] // group, weight.shape[1]
    strides, taps = [axis.stride for axis in axes], [axis.taps for axis in axes]
    result = np.zeros([group, outputs, *strides, inputs, *taps], np.float32)
    grouped = weight.reshape(group, inputs, outputs, *weight.shape[2:]).swapaxes(1, 2)
    for place in product(*(range(axis.kernel) for axis in axes)):
        steps = [divmod(k * axis.dilation, axis.stride) for k, axis in zip(place, axes, strict=True)]
        phase = tuple(r for _, r in steps)
        tap = tuple(axis.taps - 1 - m for (m, _), axis in zip(steps, axes, strict=True))
        target: tuple[int | slice, ...] = (slice(None), slice(None), *phase, slice(None), *tap)
        source = (Ellipsis, *place)
        result[target] = grouped[source]
    return result.reshape(-1, inputs, *taps)


def _interleave(node: ir.Node, value: ir.Value, channels: int, axes: Sequence[_Axis], data: Dims) -> ir.Value:
    """`[N, O * phases, q...]` -> `[N, O, q * stride...]`."""
    planes = [int(dim) + sum(axis.pads) - axis.taps + 1 for axis, dim in zip(axes, data[2:], strict=True)]
    strides = [axis.stride for axis in axes]
    batch = data[0] if isinstance(data[0], int) else 0
    n = len(axes)
    first = [batch, channels, *strides, *planes]
    perm = [0, 1, *(place for axis in range(n) for place in (2 + n + axis, 2 + axis))]
    joined = [batch, channels, *(p * s for p, s in zip(planes, strides, strict=True))]
    split = insert_before(node, "Reshape", [value], {"shape": first, "allowzero": 0})
    moved = insert_before(node, "Transpose", split.outputs, {"perm": perm})
    return insert_before(node, "Reshape", moved.outputs, {"shape": joined, "allowzero": 0}).outputs[0]


def _crop(node: ir.Node, value: ir.Value, axes: Sequence[_Axis]) -> ir.Value:
    """Cut what the padding of a ConvTranspose takes away."""
    crops = [axis.crop for axis in axes]
    if not any(cells for crop in crops for cells in crop):
        return value
    attributes = {
        "starts": [begin for begin, _ in crops],
        "ends": [-end if end else 1 << 30 for _, end in crops],
        "axes": [2 + axis for axis in range(len(axes))],
        "steps": [1] * len(axes),
    }
    return insert_before(node, "Slice", [value], attributes).outputs[0]


def _check_channels(node: ir.Node, weight: Array, data: Dims, group: int) -> None:
    if group < 1 or weight.shape[0] % group:
        raise ModelError(
            f"node {label(node)}: {weight.shape[0]} input channels in {group} groups; correct the model"
        )
    if isinstance(data[1], int) and data[1] != weight.shape[0]:
        raise ModelError(
            f"node {label(node)}: the input has {data[1]} channels, the weight expects {weight.shape[0]}; "
            "correct the model"
        )


def _axes(node: ir.Node, kernel: list[int], data: Dims) -> list[_Axis]:
    """The spatial axes, with automatic padding and `output_shape` resolved."""
    n = len(kernel)
    settings = {
        "kernel_shape": get_ints(node, "kernel_shape") or kernel,
        "strides": get_ints(node, "strides") or [1] * n,
        "dilations": get_ints(node, "dilations") or [1] * n,
        "output_padding": get_ints(node, "output_padding") or [0] * n,
    }
    pads = get_ints(node, "pads") or [0] * (2 * n)
    if (
        any(len(entry) != n for entry in settings.values())
        or settings["kernel_shape"] != kernel
        or len(pads) != 2 * n
    ):
        words = ", ".join(f"{name} {entry}" for name, entry in settings.items())
        raise ModelError(
            f"node {label(node)}: {words}, pads {pads} do not fit a kernel of {kernel}; correct the model"
        )
    strides, dilations = settings["strides"], settings["dilations"]
    if min([*strides, *dilations, *kernel]) < 1 or min([*settings["output_padding"], *pads]) < 0:
        raise ModelError(
            f"node {label(node)}: strides {strides}, dilations {dilations}, output_padding "
            f"{settings['output_padding']}, pads {pads}: a negative size or a step of zero; correct the model"
        )
    added = settings["output_padding"]
    auto_pad = get_string(node, "auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"node {label(node)}: auto_pad '{auto_pad}' is unknown; correct the model")
    wanted = get_ints(node, "output_shape") if has_attribute(node, "output_shape") else None
    axes = []
    for i in range(n):
        window = (kernel[i] - 1) * dilations[i] + 1
        begin, end = (0, 0) if auto_pad == "VALID" else (pads[i], pads[n + i])
        if wanted or auto_pad.startswith("SAME"):
            total = window + added[i] - strides[i]  # what gives an output of input * stride
            if wanted:
                total = strides[i] * (int(data[2 + i]) - 1) + added[i] + window - wanted[-n:][i]
            smaller, larger = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
            begin, end = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
            if wanted and total < 0:  # gaps beyond the last weight
                begin, end = 0, total
        axes.append(_Axis(kernel[i], strides[i], dilations[i], begin, end - added[i]))
    return axes
