"""Set the chosen weights of a model to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import ModelError, OptionError
from pyruntime.layers import Layer, find_layers
from pyruntime.prune import select
from pyruntime.prune.criteria import CRITERIA
from pyruntime.prune.granularity import GRANULARITIES, Granularity
from pyruntime.prune.spec import PruneSpec


@dataclass(frozen=True)
class LayerPruning:
    """What one spec did to one weight. `skipped` says why nothing was done; empty if it was."""

    node: str
    weight: str
    granularity: str
    shape: tuple[int, ...]
    zeros: int
    skipped: str = ""

    @property
    def sparsity(self) -> float:
        """Fraction of zero weights."""
        return self.zeros / max(1, int(np.prod(self.shape)))


@dataclass
class PruneReport:
    """Rows in execution order, one per weight and spec."""

    layers: list[LayerPruning] = field(default_factory=list)

    @property
    def pruned(self) -> list[str]:
        """Names of the weights that were pruned."""
        return list(dict.fromkeys(row.weight for row in self.layers if not row.skipped))

    @property
    def granularities(self) -> dict[str, str]:
        """Pruned weight -> the granularity it was pruned with; weights pruned with several are missing."""
        found: dict[str, set[str]] = {}
        for row in self.layers:
            if not row.skipped:
                found.setdefault(row.weight, set()).add(row.granularity)
        return {weight: names.pop() for weight, names in found.items() if len(names) == 1}


def prune(model: ir.Model, specs: Sequence[PruneSpec]) -> PruneReport:
    """Set weights of Conv, Gemm and MatMul to zero, in place (as new initializers); a shared weight is
    pruned once.

    Args:
        model: canonical float model.
        specs: applied one after the other.
    Returns: what was done to each weight, also the layers left alone and why.
    Errors: OptionError if a glob matches no layer; ModelError if a weight is not finite.
    """
    report = PruneReport()
    for spec in specs:
        report.layers += _prune_once(model, spec)
    return report


def _prune_once(model: ir.Model, spec: PruneSpec) -> list[LayerPruning]:
    granularity = GRANULARITIES[spec.granularity]
    chosen: list[Layer] = []
    rows: dict[str, LayerPruning] = {}
    for layers in _by_weight(_matching(find_layers(model), spec)):
        layer = layers[0]
        reason = next(filter(None, (_skip_reason(granularity, user) for user in layers)), "")
        rows[layer.weight_name] = _row(layer, granularity, reason)
        if not reason:
            chosen.append(layer)
    scores = [_scores(layer, spec) for layer in chosen]
    for layer, mask in zip(chosen, _masks(scores, granularity, spec), strict=True):
        weight = layer.array()
        graph.set_initializer(model, layer.weight, layer.stored(np.where(mask, weight, np.float32(0))))
        rows[layer.weight_name] = _row(layer, granularity, "")
    return list(rows.values())


def _masks(
    scores: list[npt.NDArray[np.float64]], granularity: Granularity, spec: PruneSpec
) -> list[npt.NDArray[np.bool_]]:
    if not scores:
        return []
    if granularity.fixed:
        return [granularity.pattern(array) for array in scores]
    grouped = [granularity.group(array) for array in scores]
    if spec.scope == "layer":
        keeps = [select.keep_in_layer(array, spec.amount) for array in grouped]
    else:
        keeps = select.keep_overall([select.layer_adaptive(array) for array in grouped], spec.amount)
    return [granularity.spread(keep, array.shape[-1]) for keep, array in zip(keeps, scores, strict=True)]


def _scores(layer: Layer, spec: PruneSpec) -> npt.NDArray[np.float64]:
    weight = layer.array()
    if not np.isfinite(weight).all():
        raise ModelError(f"weight '{layer.weight_name}' holds NaN or infinity; export the model again")
    return CRITERIA[spec.criterion](weight, layer.weight_name)


def _skip_reason(granularity: Granularity, layer: Layer) -> str:
    return granularity.skip_reason(layer.array().shape[-1], layer.depthwise)


def _row(layer: Layer, granularity: Granularity, reason: str) -> LayerPruning:
    zeros = int(np.count_nonzero(layer.array() == 0))
    return LayerPruning(layer.name, layer.weight_name, granularity.name, layer.shape, zeros, reason)


def _by_weight(layers: list[Layer]) -> list[list[Layer]]:
    users: dict[ir.Value, list[Layer]] = {}
    for layer in layers:
        users.setdefault(layer.weight, []).append(layer)
    return list(users.values())


def _matching(layers: list[Layer], spec: PruneSpec) -> list[Layer]:
    for option, globs in (("only", spec.only), ("exclude", spec.exclude)):
        for pattern in globs:
            if not any(_matches(layer, (pattern,)) for layer in layers):
                names = [layer.name for layer in layers[:4]] + ["..."] * (len(layers) > 4)
                raise OptionError(
                    f"--prune {option}={pattern}: matches no layer; the {len(layers)} layers with constant "
                    f"weights are: {', '.join(names) or 'none'}"
                )
    wanted = [layer for layer in layers if not spec.only or _matches(layer, spec.only)]
    excluded = {layer.weight for layer in layers if _matches(layer, spec.exclude)}
    return [layer for layer in wanted if layer.weight not in excluded]


def _matches(layer: Layer, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(layer.name, glob) or fnmatchcase(layer.weight_name, glob) for glob in globs)
