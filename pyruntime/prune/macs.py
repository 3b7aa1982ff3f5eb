"""Multiply-accumulates of a network, and how they fall with its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.graph.dimensions import Dim
from pyruntime.layers import as_layer
from pyruntime.prune.dependency import Dependencies


@dataclass
class Term:
    """MACs of one node: `factor * counts[0] * counts[1]`; `classes[i]` are those of the channels counted."""

    factor: float
    counts: list[int]
    classes: list[list[int]]


class Cost:
    """MACs per sample of a network whose channels go one class after the other."""

    def __init__(self, model: ir.Model, found: Dependencies) -> None:
        terms = (_term(node, found) for node in graph.topological_nodes(model))
        self._terms = [term for term in terms if term is not None]
        self._places: dict[int, dict[tuple[int, int], int]] = {}
        for index, term in enumerate(self._terms):
            for side, classes in enumerate(term.classes):
                for unit in classes:
                    places = self._places.setdefault(unit, {})
                    places[index, side] = places.get((index, side), 0) + 1

    @property
    def total(self) -> float:
        return sum(term.factor * float(np.prod(term.counts)) for term in self._terms)

    def saved(self, units: list[int]) -> float:
        """MACs less if these classes go."""
        lost = self._lost(units)
        saved = 0.0
        for index in {index for index, _ in lost}:
            term = self._terms[index]
            left = [count - lost.get((index, side), 0) for side, count in enumerate(term.counts)]
            saved += term.factor * (float(np.prod(term.counts)) - float(np.prod(left)))
        return saved

    def remove(self, units: list[int]) -> None:
        for (index, side), count in self._lost(units).items():
            self._terms[index].counts[side] -= count

    def _lost(self, units: list[int]) -> Mapping[tuple[int, int], int]:
        lost: dict[tuple[int, int], int] = {}
        for unit in units:
            for place, count in self._places.get(unit, {}).items():
                lost[place] = lost.get(place, 0) + count
        return lost


def macs(model: ir.Model) -> int:
    """Multiply-accumulates per sample of all Conv, Gemm and MatMul; sizes that are not known count as one."""
    terms = (_term(node, None) for node in graph.topological_nodes(model))
    return round(sum(term.factor * float(np.prod(term.counts)) for term in terms if term is not None))


def _term(node: ir.Node, found: Dependencies | None) -> Term | None:
    layer = as_layer(node)
    dims = graph.dims(node.outputs[0])
    if dims is None or (layer is None and node.op_type not in ("MatMul", "Gemm")):
        return None
    if layer is None:
        inner = (graph.dims(node.inputs[0]) or [1])[-1]
        return Term(_known([*dims[1:], inner]), [], [])
    shape, axis = layer.shape, layer.axis
    inputs = 1 - axis
    spatial = dims[2:] if node.op_type == "Conv" else dims[1:-1]
    positions = _known([*spatial, *shape[2:]])
    axes = {} if found is None else found.axes.get(layer.weight, {})
    factor, counts, classes = positions, [], []
    for place in (axis, inputs):
        if found is not None and place in axes:
            counts.append(shape[place])
            classes.append(found.table.classes(axes[place]).tolist())
        else:
            factor *= shape[place]
    return Term(factor, counts, classes)


def _known(dims: list[Dim]) -> float:
    return float(np.prod([dim for dim in dims if isinstance(dim, int)], dtype=np.float64))
