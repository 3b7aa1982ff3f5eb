"""What each operator does to channels: one rule per kind of operator.

A rule labels the outputs of its node, ties labels that must stay or go together, says which axes of its
constants they are, and fixes what it cannot follow. Inputs have a known rank.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import as_layer
from pyruntime.prune.dependency import reshape
from pyruntime.prune.dependency.dependencies import Dependencies, fix_all, size
from pyruntime.prune.dependency.labels import Labels

_Rule = Callable[[Dependencies, ir.Node], None]


def groups_whole(groups: int, inputs: int) -> bool:
    """Whether a grouped convolution loses whole groups (always if depthwise) or the same channels in each."""
    return groups >= inputs // groups


def _conv(found: Dependencies, node: ir.Node) -> None:
    layer = as_layer(node)
    x = node.inputs[0]
    read = found.activation(x)
    if layer is None or (read is not None and read[0] != 1):
        return fix_all(found, node, f"read by {graph.label(node)}, whose weight or layout is not plain")
    labels = None if read is None else read[1]
    outputs = layer.shape[0]
    if layer.groups == 1:
        made = found.table.new(outputs)
        weight = {0: made} if labels is None else {0: made, 1: labels}
    else:
        made, weight = _grouped(found, node, layer.groups, layer.shape[1] * layer.groups, outputs, labels)
    found.use(layer.weight, weight)
    if layer.bias is not None:
        found.use(layer.bias, {0: made})
    found.set(node.outputs[0], 1, made)


def _grouped(
    found: Dependencies, node: ir.Node, groups: int, inputs: int, outputs: int, labels: Labels | None
) -> tuple[Labels, dict[int, Labels]]:
    made = found.table.new(outputs)
    by_group = made.reshape(groups, -1)
    read = None if labels is None else labels.reshape(groups, -1)
    if groups_whole(groups, inputs):
        for column in by_group.T[1:]:
            found.table.tie(by_group[:, 0], column)
        if read is None:
            found.table.fix(made, f"{graph.label(node)} reads a tensor that cannot shrink, group by group")
        else:
            for column in read.T:
                found.table.tie(by_group[:, 0], column)
        return made, {0: made}
    for row in by_group[1:]:
        found.table.tie(by_group[0], row)
    if read is None:
        return made, {0: made}
    for row in read[1:]:
        found.table.tie(read[0], row)
    return made, {0: made, 1: read[0]}


def _dense(found: Dependencies, node: ir.Node) -> None:
    layer = as_layer(node)
    if layer is None:
        return _product(found, node)
    x = node.inputs[0]
    read = found.activation(x)
    if read is not None and read[0] != len(size(x)) - 1:
        found.fix(x, f"{graph.label(node)} sums over another axis of it")
        read = None
    made = found.table.new(layer.shape[layer.axis])
    weight = {layer.axis: made}
    if read is not None:
        weight[1 - layer.axis] = read[1]
    found.use(layer.weight, weight)
    if layer.bias is not None:
        _use_aligned(
            found, node, layer.bias, len(size(node.outputs[0])) - 1, made, len(size(node.outputs[0]))
        )
    found.set(node.outputs[0], len(size(node.outputs[0])) - 1, made)


def _product(found: Dependencies, node: ir.Node) -> None:
    """MatMul of two activations: heads on a batch axis of both, rows of the left or columns of the right."""
    left, right = node.inputs[:2]
    if node.op_type != "MatMul" or graph.is_constant(left) or graph.is_constant(right):
        return fix_all(found, node, f"read by {graph.label(node)}, which is no plain layer")
    a, b = found.activation(left), found.activation(right)
    ranks = len(size(left)), len(size(right))
    rank = max(ranks)
    at_a = None if a is None else a[0] + rank - ranks[0]
    at_b = None if b is None else b[0] + rank - ranks[1]
    if min(ranks) < 2:
        return fix_all(found, node, f"read by {graph.label(node)}, whose inputs are vectors")
    if a is not None and at_a == at_b and at_a is not None and at_a < rank - 2:
        assert b is not None
        if len(a[1]) == len(b[1]):
            found.table.tie(a[1], b[1])
            return found.set(node.outputs[0], at_a, a[1])
    if a is not None and b is None and at_a == rank - 2:
        return found.set(node.outputs[0], rank - 2, a[1])
    if b is not None and a is None and at_b == rank - 1:
        return found.set(node.outputs[0], rank - 1, b[1])
    fix_all(found, node, f"summed over, or not in both inputs, of {graph.label(node)}")


def _unary(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is not None:
        found.set(node.outputs[0], *read)


def _spatial(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is not None and read[0] > 1:
        return fix_all(found, node, f"{graph.label(node)} works along its axis {read[0]}")
    _unary(found, node)


def _along_axes(found: Dependencies, node: ir.Node, axes: list[int]) -> bool:
    read = found.activation(node.inputs[0])
    if read is None or read[0] not in axes:
        return False
    fix_all(found, node, f"{graph.label(node)} works along its channels")
    return True


def _softmax(found: Dependencies, node: ir.Node) -> None:
    if not _along_axes(found, node, [graph.get_int(node, "axis", -1) % len(size(node.inputs[0]))]):
        _unary(found, node)


def _layer_norm(found: Dependencies, node: ir.Node) -> None:
    rank = len(size(node.inputs[0]))
    normalized = list(range(graph.get_int(node, "axis", -1) % rank, rank))
    if _along_axes(found, node, normalized):
        return
    for value in node.inputs[1:]:
        if value is not None:
            found.use(value, {})
    _unary(found, node)


def _elementwise(found: Dependencies, node: ir.Node) -> None:
    """Add, Sub, Mul, Div, PRelu, with broadcasting."""
    rank = max(len(size(value)) for value in node.inputs)
    dynamic = [value for value in node.inputs if value is not None and not graph.is_constant(value)]
    labelled = [(value, found.activation(value)) for value in dynamic]
    places = [(read[0] + rank - len(size(value)), read[1]) for value, read in labelled if read is not None]
    if not places:
        return fix_all(found, node, "")
    axis, labels = max(places, key=lambda place: len(place[1]))
    for value, read in labelled:
        here = axis - rank + len(size(value))
        if read is not None and read[0] == here and len(read[1]) == len(labels):
            found.table.tie(labels, read[1])
        elif read is not None and read[0] == here and len(read[1]) == 1:
            found.table.fix(read[1], f"{graph.label(node)} combines it with every channel of another tensor")
        elif read is not None:
            return fix_all(found, node, f"{graph.label(node)} combines different axes")
        elif here >= 0 and size(value)[here] != 1:
            found.table.fix(labels, f"{graph.label(node)} combines it with a tensor that cannot shrink")
    for constant in node.inputs:
        if constant is not None and graph.is_constant(constant):
            _use_aligned(found, node, constant, axis, labels, rank)
    found.set(node.outputs[0], axis, labels)


def _use_aligned(
    found: Dependencies, node: ir.Node, value: ir.Value, axis: int, labels: Labels, rank: int
) -> None:
    """A constant that is broadcast against a tensor of that rank, labelled on `axis`."""
    dims = size(value)
    here = axis - rank + len(dims)
    if here < 0 or dims[here] == 1:
        return found.use(value, {})
    if dims[here] == len(labels):
        return found.use(value, {here: labels})
    found.table.fix(labels, f"constant '{value.name}' of {graph.label(node)} does not fit its channels")
    found.use(value, {})


def _concat(found: Dependencies, node: ir.Node) -> None:
    axis = graph.get_int(node, "axis", 0) % len(size(node.outputs[0]))
    values = [value for value in node.inputs if value is not None]
    reads = [found.activation(value) for value in values]
    labelled = [read for read in reads if read is not None]
    if not labelled:
        return fix_all(found, node, "")
    if any(place != axis for place, _ in labelled):
        return _stack(found, node, values)
    pieces = []
    for value, read in zip(values, reads, strict=True):
        count = size(value)[axis]
        if read is not None:
            pieces.append(read[1])
        elif not isinstance(count, int):
            return fix_all(found, node, f"{graph.label(node)} joins it with a tensor of unknown size")
        elif graph.is_constant(value):
            pieces.append(found.table.new(count))
            found.use(value, {axis: pieces[-1]})
        else:
            pieces.append(found.fixed(count, f"'{value.name}' cannot shrink"))
    found.set(node.outputs[0], axis, np.concatenate(pieces))


def _stack(found: Dependencies, node: ir.Node, values: list[ir.Value]) -> None:
    """Concat along another axis than that of the channels: all inputs have the same channels."""
    reads = [found.activation(value) for value in values if not graph.is_constant(value)]
    first = next(read for read in reads if read is not None)
    if any(read is None or read[0] != first[0] or len(read[1]) != len(first[1]) for read in reads):
        return fix_all(found, node, f"{graph.label(node)} joins it with a tensor that cannot shrink")
    for read in reads:
        assert read is not None
        found.table.tie(first[1], read[1])
    for value in values:
        if graph.is_constant(value):
            found.use(value, {first[0]: first[1]})
    found.set(node.outputs[0], *first)


def _split(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    axis = graph.get_int(node, "axis", 0) % len(size(node.inputs[0]))
    sizes = graph.get_ints(node, "split") or []
    if axis != read[0]:
        for output in node.outputs:
            found.set(output, *read)
        return
    if sum(sizes) != len(read[1]):
        return fix_all(found, node, f"{graph.label(node)} has no sizes")
    for output, part in zip(node.outputs, np.split(read[1], np.cumsum(sizes)[:-1]), strict=True):
        found.set(output, axis, part)


def _slice(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    cut = slice_of(node, read[0], len(size(node.inputs[0])))
    if cut is None:
        return found.set(node.outputs[0], *read)
    if cut.step not in (1, None):
        return fix_all(found, node, f"{graph.label(node)} takes every {cut.step}th of it")
    if len(read[1][cut]) == 0:
        return fix_all(found, node, f"{graph.label(node)} takes nothing of it")
    found.set(node.outputs[0], read[0], read[1][cut])


def slice_of(node: ir.Node, axis: int, rank: int) -> slice | None:
    """What a Slice takes of an axis, None if it takes all."""
    starts, ends = graph.get_ints(node, "starts") or [], graph.get_ints(node, "ends") or []
    axes = graph.get_ints(node, "axes") or list(range(len(starts)))
    steps = graph.get_ints(node, "steps") or [1] * len(starts)
    for start, end, place, step in zip(starts, ends, axes, steps, strict=True):
        if place % rank == axis:
            return slice(start, end, step)
    return None


def _pad(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    axis, labels = read
    pads, rank = graph.get_ints(node, "pads") or [], len(size(node.inputs[0]))
    before, after = pads[axis], pads[axis + rank]
    if before == after == 0:
        return found.set(node.outputs[0], axis, labels)
    if min(before, after) < 0 or graph.get_string(node, "mode", "constant") != "constant":
        return fix_all(found, node, f"{graph.label(node)} pads or cuts its channels")
    # Channels of padding may go like others: the Pad then writes fewer.
    pieces = [found.table.new(before), labels, found.table.new(after)]
    found.set(node.outputs[0], axis, np.concatenate(pieces))


def _reshape(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    moved = reshape.move(found.table, *read, size(node.inputs[0]), size(node.outputs[0]))
    if isinstance(moved, str):
        return fix_all(found, node, f"{moved} by {graph.label(node)}")
    found.set(node.outputs[0], *moved)


def _transpose(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is not None:
        perm = graph.get_ints(node, "perm") or list(range(len(size(node.inputs[0]))))[::-1]
        found.set(node.outputs[0], perm.index(read[0]), read[1])


def _squeeze(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    rank = len(size(node.inputs[0]))
    axes = [axis % rank for axis in graph.get_ints(node, "axes") or []]
    if read is not None and not _along_axes(found, node, axes):
        found.set(node.outputs[0], read[0] - sum(axis < read[0] for axis in axes), read[1])


def _unsqueeze(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    rank = len(size(node.outputs[0]))
    axes = {axis % rank for axis in graph.get_ints(node, "axes") or []}
    free = [axis for axis in range(rank) if axis not in axes]
    found.set(node.outputs[0], free[read[0]], read[1])


def _reduce(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    rank = len(size(node.inputs[0]))
    axes = [axis % rank for axis in graph.get_ints(node, "axes") or []]
    if read is None or _along_axes(found, node, axes):
        return
    gone = 0 if graph.get_int(node, "keepdims", 1) else sum(axis < read[0] for axis in axes)
    found.set(node.outputs[0], read[0] - gone, read[1])


def _resize(found: Dependencies, node: ir.Node) -> None:
    read = found.activation(node.inputs[0])
    if read is None:
        return
    if size(node.inputs[0])[read[0]] != size(node.outputs[0])[read[0]]:
        return fix_all(found, node, f"{graph.label(node)} resizes its channels")
    found.set(node.outputs[0], *read)


_UNARY = [
    *("Identity", "Cast", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
    *("Gelu", "Silu", "Exp", "Sqrt", "Erf", "Abs"),
]
_SPATIAL = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"]
_BINARY = ["Add", "Sub", "Mul", "Div", "PRelu"]

RULES: dict[str, _Rule] = {
    "Conv": _conv,
    "Gemm": _dense,
    "MatMul": _dense,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "ReduceMean": _reduce,
    "Resize": _resize,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_SPATIAL, _spatial),
    **dict.fromkeys(_BINARY, _elementwise),
}

TAKES_CONSTANTS = {"Concat", "MatMul", *_BINARY}
"""Operators whose first input may be a constant."""
