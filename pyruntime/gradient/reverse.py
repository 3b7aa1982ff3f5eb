"""The walk from the outputs of a model to its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import ModelError
from pyruntime.gradient.rules import RULES, Array


@dataclass(frozen=True)
class Step:
    """One node, seen on the way back.

    Attributes:
        output: gradient with respect to its (first) output.
        inputs: what reaches each input through this node alone; None for constants.
    """

    node: ir.Node
    output: Array
    inputs: list[Array | None]


def tensors(model: ir.Model) -> list[str]:
    """Names of the tensors whose values `differentiate` needs."""
    made = [value for node in model.graph for value in node.outputs]
    return [value.name or "" for value in (*model.graph.inputs, *made)]


def differentiate(model: ir.Model, values: Mapping[str, Array], seeds: Mapping[str, Array]) -> Iterator[Step]:
    """Steps through the nodes that lead to the seeded outputs, last to first.

    Args:
        model: canonical float model.
        values: `tensors(model)` for one batch.
        seeds: gradient with respect to each graph output, of its shape.
    Errors: ModelError naming an operator that has no rule.
    """
    gradients: dict[str, Array] = dict(seeds)
    for node in reversed(graph.topological_nodes(model)):
        upstream = [gradients.pop(value.name or "", None) for value in node.outputs]
        if all(part is None for part in upstream):
            continue
        rule = RULES.get(node.op_type)
        if rule is None:
            raise ModelError(f"node {graph.label(node)}: has no derivative here; use another criterion")
        filled = [
            np.zeros_like(values[value.name or ""]) if part is None else part
            for part, value in zip(upstream, node.outputs, strict=True)
        ]
        arrays = [_value(value, values) for value in node.inputs]
        found = rule(node, arrays, [values[value.name or ""] for value in node.outputs], filled)
        parts = [
            None if value is None or graph.is_constant(value) else part
            for value, part in zip(node.inputs, found, strict=False)
        ]
        for value, part in zip(node.inputs, parts, strict=False):
            if value is not None and part is not None:
                name = value.name or ""
                gradients[name] = gradients[name] + part if name in gradients else part
        yield Step(node, filled[0], parts)


def _value(value: ir.Value | None, values: Mapping[str, Array]) -> Array | None:
    if value is None:
        return None
    array = graph.constant(value)
    return values[value.name or ""] if array is None else array
