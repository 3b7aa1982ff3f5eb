"""Which scheme the weight of every layer gets, and which layers run on integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import onnx_ir as ir

from pyruntime.errors import OptionError
from pyruntime.layers import Layer, find_layers
from pyruntime.quantize.schemes import Integer, Scheme
from pyruntime.quantize.spec import QuantizeSpec


@dataclass(frozen=True)
class Assignment:
    """Attributes:
    schemes: layer name -> scheme of its weight; the weight of a layer without one stays float32.
    integer: names of the layers that run on integers.
    signed: activations are s8 in the model, not u8.
    """

    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    integer: frozenset[str] = frozenset()
    signed: bool = False


def uniform(model: ir.Model, scheme: Scheme | None = None) -> Assignment:
    """Every layer on integers, with one scheme (int8 by default)."""
    names = [layer.name for layer in find_layers(model)]
    return Assignment(dict.fromkeys(names, scheme or Integer()), frozenset(names))


def assign(
    model: ir.Model, spec: QuantizeSpec, rules: Mapping[str, QuantizeSpec] | None = None
) -> Assignment:
    """The assignment that `--quantize` and the `layers` of a recipe ask for.

    Args:
        rules: by layer name, weight name, or a pattern (`*`, `?`, `[...]`) of either; of several that match,
            the last counts.
    Errors: OptionError for a rule that no layer matches, or that parts layers which share a weight.
    """
    layers = find_layers(model)
    rules = rules or {}
    for pattern in rules:
        if not any(matches(layer, pattern) for layer in layers):
            names = ", ".join([layer.name for layer in layers[:8]] + ["..."] * (len(layers) > 8))
            raise OptionError(f"layers: no layer matches '{pattern}'; the layers are: {names}")
    ends = _ends(layers) if spec.ends else set()
    chosen = {}
    for layer in layers:
        found = replace(spec, scheme=Integer()) if layer.name in ends else spec
        for pattern, rule in rules.items():
            if matches(layer, pattern):
                found = rule
        chosen[layer.name] = found
    _check_shared(layers, chosen)
    schemes = {name: found.scheme for name, found in chosen.items() if found.scheme is not None}
    integer = frozenset(name for name, found in chosen.items() if found.integer)
    return Assignment(schemes, integer, spec.activations == "s8")


def matches(layer: Layer, pattern: str) -> bool:
    return fnmatchcase(layer.name, pattern) or fnmatchcase(layer.weight_name, pattern)


def _ends(layers: list[Layer]) -> set[str]:
    """Names of the layers that have no layer before them or none after them."""
    behind: set[ir.Node] = set()
    first, last = set(), {layer.node: layer.name for layer in layers}
    nodes = {layer.node for layer in layers}
    for layer in layers:
        before = _before(layer.node, nodes)
        if not before:
            first.add(layer.name)
        behind |= before
    return first | {name for node, name in last.items() if node not in behind}


def _before(node: ir.Node, layers: set[ir.Node]) -> set[ir.Node]:
    """The layers whose results a node reads with no other layer between."""
    found: set[ir.Node] = set()
    seen: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for value in waiting.pop().inputs:
            producer = value.producer() if value is not None else None
            if producer is None or producer in seen:
                continue
            seen.add(producer)
            if producer in layers:
                found.add(producer)
            else:
                waiting.append(producer)
    return found


def _check_shared(layers: list[Layer], chosen: Mapping[str, QuantizeSpec]) -> None:
    users: dict[tuple[str, int], Layer] = {}
    for layer in layers:
        other = users.setdefault((layer.weight_name, layer.axis), layer)
        mine, theirs = chosen[layer.name], chosen[other.name]
        if (mine.scheme, mine.integer) != (theirs.scheme, theirs.integer):
            raise OptionError(
                f"layers: '{layer.name}' and '{other.name}' share weight '{layer.weight_name}'; "
                "give both the same scheme"
            )
