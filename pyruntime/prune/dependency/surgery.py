"""Removal of classes of channels from a model, and its equivalent that only sets them to zero."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.prune.dependency.dependencies import Dependencies, size
from pyruntime.prune.dependency.rules import groups_whole, slice_of

Kept = dict[str, dict[int, np.ndarray]]
"""Name of a tensor -> axis -> indices that stayed."""


def shrink(model: ir.Model, found: Dependencies, dead: Collection[int]) -> Kept:
    """Remove the classes from the model, in place (as new initializers): every tensor that has channels of
    them gets smaller, and the attributes that state sizes follow.

    Args:
        found: what `analyse` said of this model; it is of no use afterwards.
        dead: classes; none of them fixed, and none the only one left on an axis.
    Returns: for each value that shrank, weight or activation, what stayed of it.
    """
    gone = frozenset(dead)
    kept = {value: axes for value in found.axes if (axes := found.kept(value, gone))}
    for node in graph.topological_nodes(model):
        _SURGERY.get(node.op_type, _nothing)(node, found, kept)
    for value, axes in kept.items():
        array = graph.constant(value)
        if array is not None:
            for axis, indices in axes.items():
                array = np.take(array, indices, axis=axis)
            graph.set_initializer(model, value, np.ascontiguousarray(array))
    graph.infer_shapes(model)
    return {value.name or "": axes for value, axes in kept.items()}


def mask(model: ir.Model, found: Dependencies, dead: Collection[int]) -> None:
    """Set all entries of the classes in all constants to zero, in place: what `shrink` must be equal to.

    What reads a channel of these classes gives it the weight zero, so it does not matter what the channel
    holds.
    """
    gone = frozenset(dead)
    for value in list(found.axes):
        array = graph.constant(value)
        axes = found.kept(value, gone)
        if array is None or not axes:
            continue
        array = array.copy()
        for axis, indices in axes.items():
            lost = np.setdiff1d(np.arange(array.shape[axis]), indices)
            array[(slice(None),) * axis + (lost,)] = 0
        graph.set_initializer(model, value, array)


_KeptValues = dict[ir.Value, dict[int, np.ndarray]]


def _nothing(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    pass


def _conv(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    groups = graph.get_int(node, "group", 1)
    x = node.inputs[0]
    if groups == 1 or x not in kept:
        return
    channels = size(x)[1]
    assert isinstance(channels, int) and x is not None
    if groups_whole(groups, channels):
        graph.set_attribute(node, "group", len(kept[x][1]) * groups // channels)


def _split(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    axis = graph.get_int(node, "axis", 0) % len(size(node.inputs[0]))
    sizes = list(graph.get_ints(node, "split") or [])
    for index, output in enumerate(node.outputs):
        if axis in kept.get(output, {}):
            sizes[index] = len(kept[output][axis])
    graph.set_attribute(node, "split", sizes)


def _slice(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    x = node.inputs[0]
    assert x is not None
    rank = len(size(x))
    for axis, indices in kept.get(x, {}).items():
        cut = slice_of(node, axis, rank)
        count = size(x)[axis]
        if cut is None:
            continue
        assert isinstance(count, int)
        start, end, _ = cut.indices(count)
        axes = graph.get_ints(node, "axes") or list(range(len(graph.get_ints(node, "starts") or [])))
        place = [entry % rank for entry in axes].index(axis)
        for name, bound in (("starts", start), ("ends", end)):
            bounds = list(graph.get_ints(node, name) or [])
            bounds[place] = int(np.searchsorted(indices, bound))
            graph.set_attribute(node, name, bounds)


def _pad(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    pads, rank = list(graph.get_ints(node, "pads") or []), len(size(x))
    for axis, indices in kept.get(y, {}).items():
        count = size(x)[axis]
        assert isinstance(count, int)
        before = pads[axis]
        pads[axis] = int((indices < before).sum())
        pads[axis + rank] = int((indices >= before + count).sum())
    graph.set_attribute(node, "pads", pads)


def _reshape(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    """Write sizes that copying (0) or counting (-1) would no longer get right."""
    x, y = node.inputs[0], node.outputs[0]
    shape = list(graph.get_ints(node, "shape") or [])
    for axis in kept.get(x, {}) if x is not None else ():
        if axis < len(shape) and shape[axis] == 0 and not graph.get_int(node, "allowzero", 0):
            dim = size(y)[axis]
            assert isinstance(dim, int)
            shape[axis] = dim
    for axis, indices in kept.get(y, {}).items():
        if shape[axis] != -1:
            shape[axis] = len(indices)
    graph.set_attribute(node, "shape", shape)


def _resize(node: ir.Node, found: Dependencies, kept: _KeptValues) -> None:
    sizes = graph.get_ints(node, "sizes")
    if sizes is None:
        return
    sizes = list(sizes)
    for axis, indices in kept.get(node.outputs[0], {}).items():
        sizes[axis] = len(indices)
    graph.set_attribute(node, "sizes", sizes)


_SURGERY = {
    "Conv": _conv,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
}
