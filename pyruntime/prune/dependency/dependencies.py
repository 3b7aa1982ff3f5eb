"""What is known of the channels of a model: labels of its tensors, groups, layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.graph.dimensions import Dims
from pyruntime.layers import Layer
from pyruntime.prune.dependency.labels import Labels, LabelTable

Axes = dict[int, Labels]
"""Axis -> label of each of its channels. An axis that is missing keeps its size."""


@dataclass(frozen=True)
class Group:
    """Channels that belong together because some of them are tied.

    Attributes:
        name: the first layer that makes them.
        producers: names of the layers that make them; consumers: of those that read them.
        units: classes, each of which can go alone unless its label is fixed.
        width: channels of the widest layer output, at least one per unit.
        fixed: why no unit can go, empty if one can.
    """

    name: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    units: tuple[int, ...]
    width: int
    fixed: str

    @property
    def per_unit(self) -> int:
        """Channels of the widest output that go with one unit."""
        return max(1, round(self.width / len(self.units)))


@dataclass(frozen=True)
class Member:
    """A layer and the classes of its weight: `outputs` `[out]` and `inputs` `[in / groups]`, None if fixed.

    `makes` and `reads` are keys of groups.
    """

    layer: Layer
    outputs: Labels | None
    inputs: Labels | None
    makes: tuple[int, ...]
    reads: tuple[int, ...]


@dataclass
class Dependencies:
    """Labels of a model, while they are made by the rules and afterwards.

    Attributes:
        axes: labelled axes of values: one axis of an activation, up to two of a weight.
        members, groups: in execution order.
    """

    table: LabelTable = field(default_factory=LabelTable)
    axes: dict[ir.Value, Axes] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def activation(self, value: ir.Value | None) -> tuple[int, Labels] | None:
        """The labelled axis of an activation; None if all its sizes are fixed."""
        found = None if value is None or graph.is_constant(value) else self.axes.get(value)
        return None if not found else next(iter(found.items()))

    def set(self, value: ir.Value, axis: int, labels: Labels) -> None:
        """Label the output of a node."""
        self.axes[value] = {axis: labels}

    def use(self, constant: ir.Value, axes: Mapping[int, Labels]) -> None:
        """A node reads a constant with these labels; all other axes it reads whole."""
        if constant not in self.axes:
            self.axes[constant] = dict(axes)
            return
        before = self.axes[constant]
        for axis in {*before, *axes}:
            if axis in before and axis in axes:
                self.table.tie(before[axis], axes[axis])
            else:
                labels = before[axis] if axis in before else axes[axis]
                self.table.fix(labels, f"constant '{constant.name}' is read whole elsewhere")
                before[axis] = labels

    def fix(self, value: ir.Value | None, reason: str) -> None:
        """All channels of the value stay."""
        for labels in self.axes.get(value, {}).values() if value is not None else ():
            self.table.fix(labels, reason)

    def fixed(self, count: int, reason: str) -> Labels:
        """Fresh labels that stay."""
        labels = self.table.new(count)
        self.table.fix(labels, reason)
        return labels

    def rows(self) -> list[Labels]:
        """The classes of every labelled axis, each set of classes once: none of them may lose all."""
        found: dict[bytes, Labels] = {}
        for axes in self.axes.values():
            for labels in axes.values():
                classes = np.unique(self.table.classes(labels))
                found.setdefault(classes.tobytes(), classes)
        return list(found.values())

    def kept(self, value: ir.Value, dead: frozenset[int]) -> dict[int, Labels]:
        """Axis -> indices that stay when the classes `dead` go; axes that lose nothing are missing."""
        found = {}
        for axis, labels in self.axes.get(value, {}).items():
            keep = ~np.isin(self.table.classes(labels), list(dead))
            if not keep.all():
                found[axis] = np.flatnonzero(keep)
        return found


def fix_all(found: Dependencies, node: ir.Node, reason: str) -> None:
    """Every channel of every input of the node stays; its outputs have fixed sizes."""
    for value in node.inputs:
        if value is None:
            continue
        if graph.is_constant(value):
            found.use(value, {})
        else:
            found.fix(value, reason)


def size(value: ir.Value | None) -> Dims:
    """Dimensions of a value whose rank is known."""
    dims = graph.dims(value)
    assert dims is not None
    return dims
