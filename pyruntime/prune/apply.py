"""Prune a model: set the chosen weights to zero, or remove the chosen channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import DataError, ModelError, OptionError
from pyruntime.evaluate import MakeRun
from pyruntime.layers import Layer, find_layers
from pyruntime.prune import select
from pyruntime.prune.channels import GroupPruning, compose, remove_channels
from pyruntime.prune.criteria import CRITERIA, Measured, Subject
from pyruntime.prune.dependency.surgery import Kept
from pyruntime.prune.granularity import Granularity, find
from pyruntime.prune.macs import macs
from pyruntime.prune.spec import PruneSpec
from pyruntime.prune.statistics import measure

Data = Mapping[str, npt.NDArray[Any]]


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
    """What was pruned.

    Attributes:
        layers: rows in execution order, one per weight and spec that sets weights to zero.
        groups: rows in execution order, one per group of channels and spec that removes channels.
        kept: for every tensor that lost channels, what stayed of it: axis -> indices.
        macs_before, macs_after: multiply-accumulates per sample; zeros count like other weights.
    """

    layers: list[LayerPruning] = field(default_factory=list)
    groups: list[GroupPruning] = field(default_factory=list)
    kept: Kept = field(default_factory=dict)
    macs_before: int = 0
    macs_after: int = 0

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

    def view(self, reference: ir.Model) -> ir.Model:
        """The float network, with its weights and tensors seen through the channels that were kept: the
        reference that recovery compares the pruned network with.
        """
        copy = graph.clone(reference)
        outputs = [output for node in copy.graph for output in node.outputs]
        for value in (*copy.graph.initializers.values(), *outputs):
            if value.name in self.kept:
                graph.set_view(value, self.kept[value.name])
        return copy


def prune(
    model: ir.Model, specs: Sequence[PruneSpec], data: Data | None = None, *, make_run: MakeRun | None = None
) -> PruneReport:
    """Prune Conv, Gemm and MatMul in place (as new initializers); a shared weight is pruned once.

    Args:
        model: canonical float model.
        specs: applied one after the other.
        data: calibration data, for the criteria that need some.
    Returns: what was done to each weight or group of channels, also those left alone and why.
    Errors: OptionError if a glob matches no layer; ModelError if a weight is not finite; DataError if a
    criterion needs data and there are none.
    """
    report = PruneReport(macs_before=macs(model))
    for spec in specs:
        assert spec.scope != "budget", "search shares out budgets beforehand"
        if spec.needs and data is None:
            raise DataError(
                f"criterion '{spec.criterion}' needs calibration data; pass calibration={{input name: array "
                "of samples}, or an .npz file of such arrays"
            )
        _check_finite(model)
        chosen, excluded = matching(find_layers(model), spec)
        measured: Mapping[str, Measured] = {}
        if spec.needs and data is not None:
            measured = measure(model, find_layers(model), data, spec.needs, make_run)
        if spec.whole:
            rows, kept = remove_channels(model, spec, chosen, excluded, measured)
            report.groups += rows
            report.kept = compose(report.kept, kept)
        else:
            report.layers += _prune_weights(model, spec, chosen, excluded, measured)
    report.macs_after = macs(model)
    return report


def _prune_weights(
    model: ir.Model, spec: PruneSpec, names: set[str], excluded: set[str], measured: Mapping[str, Measured]
) -> list[LayerPruning]:
    granularity = find(spec.granularity)
    assert granularity is not None
    chosen: list[Layer] = []
    rows: dict[str, LayerPruning] = {}
    layers = find_layers(model)
    barred = {layer.weight for layer in layers if layer.name in excluded}
    wanted = [layer for layer in layers if layer.name in names and layer.weight not in barred]
    for users in _by_weight(wanted):
        layer = users[0]
        reason = next(filter(None, (_skip_reason(granularity, user) for user in users)), "")
        rows[layer.weight_name] = _row(layer, granularity, reason)
        if not reason:
            chosen.append(layer)
    scores = [_scores(layer, spec, measured.get(layer.name)) for layer in chosen]
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
    elif CRITERIA[spec.criterion].weights_comparable:
        keeps = select.keep_overall(grouped, spec.amount)
    else:
        keeps = select.keep_overall([select.layer_adaptive(array) for array in grouped], spec.amount)
    return [granularity.spread(keep, array.shape[-1]) for keep, array in zip(keeps, scores, strict=True)]


def _scores(layer: Layer, spec: PruneSpec, measured: Measured | None) -> npt.NDArray[np.float64]:
    judge = CRITERIA[spec.criterion].weights
    assert judge is not None
    return judge(Subject(layer.weight_name, layer.array(), layer.groups, measured))


def _check_finite(model: ir.Model) -> None:
    for layer in find_layers(model):
        if not np.isfinite(layer.array()).all():
            raise ModelError(f"weight '{layer.weight_name}' holds NaN or infinity; export the model again")


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


def matching(layers: list[Layer], spec: PruneSpec) -> tuple[set[str], set[str]]:
    """Names of the layers that `only` matches (all without it), and of those that `exclude` does."""
    for option, globs in (("only", spec.only), ("exclude", spec.exclude)):
        for pattern in globs:
            if not any(_matches(layer, (pattern,)) for layer in layers):
                names = [layer.name for layer in layers[:4]] + ["..."] * (len(layers) > 4)
                raise OptionError(
                    f"--prune {option}={pattern}: matches no layer; the {len(layers)} layers with constant "
                    f"weights are: {', '.join(names) or 'none'}"
                )
    wanted = {layer.name for layer in layers if not spec.only or _matches(layer, spec.only)}
    return wanted, {layer.name for layer in layers if _matches(layer, spec.exclude)}


def _matches(layer: Layer, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(layer.name, glob) or fnmatchcase(layer.weight_name, glob) for glob in globs)
