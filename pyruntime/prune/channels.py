"""Removal of whole channels: scores of the classes of `dependency`, the choice among them, the surgery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.prune import select
from pyruntime.prune.criteria import CRITERIA, Criterion, Measured, Subject
from pyruntime.prune.dependency import Dependencies, Group, Member, analyse, shrink
from pyruntime.prune.dependency.surgery import Kept
from pyruntime.prune.macs import Cost
from pyruntime.prune.spec import PruneSpec

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupPruning:
    """What one spec did to one group of channels that belong together.

    Attributes:
        name: the layer that makes them first; layers: all that make them.
        before, after: channels of the widest output.
        skipped: why nothing was done, empty if something could be.
    """

    name: str
    layers: tuple[str, ...]
    before: int
    after: int
    skipped: str = ""


@dataclass
class Candidate:
    """A group whose units may go.

    Attributes:
        order: units that may go, the first first; costs: of each.
        steps: how many may have gone when we stop, ascending, from 0.
        taken: index into `steps`.
    """

    group: Group
    order: list[int]
    costs: Scores
    steps: list[int]
    taken: int = 0

    @property
    def gone(self) -> list[int]:
        return self.order[: self.steps[self.taken]]

    @property
    def next_units(self) -> list[int]:
        """Units that fall with the next step, none if it was the last."""
        if self.taken + 1 >= len(self.steps):
            return []
        return self.order[self.steps[self.taken] : self.steps[self.taken + 1]]


def remove_channels(
    model: ir.Model, spec: PruneSpec, matching: set[str], excluded: set[str], measured: Mapping[str, Measured]
) -> tuple[list[GroupPruning], Kept]:
    """Remove channels as `filter` or `channel` asks, in place.

    Args:
        spec: granularity `filter` or `channel`.
        matching: names of the layers that `only` matches; excluded: that `exclude` matches. They are compared
            with the layers that make the channels (`filter`) or read them (`channel`).
        measured: of each layer, where the criterion needs it.
    Returns: a row per group in execution order, and what stayed of each tensor.
    """
    found = analyse(model)
    criterion = CRITERIA[spec.criterion]
    scores = unit_scores(found, criterion, spec.granularity, measured)
    best = _best(found, scores)
    rows: dict[Group, GroupPruning] = {}
    candidates = []
    for group in found.groups:
        rows[group] = GroupPruning(group.name, group.producers, group.width, group.width, group.fixed)
        names = set(group.producers if spec.granularity == "filter" else group.consumers)
        if not group.fixed and names & matching and not names & excluded:
            candidates.append(_candidate(found, group, best, scores, spec))
        elif not group.fixed:
            rows[group] = replace(rows[group], skipped="left out by the options")
    _normalize(candidates, criterion)
    _choose(candidates, spec, Cost(model, found))
    for entry in candidates:
        group, gone = entry.group, len(entry.gone)
        after = round(group.width * (1 - gone / len(group.units)))
        reason = "" if len(entry.steps) > 1 else f"{group.width} channels, not to be cut at {spec.round_to}"
        rows[group] = replace(rows[group], after=after, skipped=reason)
    dead = [unit for entry in candidates for unit in entry.gone]
    return list(rows.values()), shrink(model, found, dead)


def unit_scores(
    found: Dependencies, criterion: Criterion, granularity: str, measured: Mapping[str, Measured]
) -> dict[int, float]:
    """Score of every class: what the layers that make it (`filter`) or read it (`channel`) say of it."""
    by_outputs = granularity == "filter"
    if criterion.weights is None:
        by_outputs = criterion.filters is not None and (by_outputs or criterion.channels is None)
    elif criterion.filters is None and criterion.channels is not None:
        by_outputs = False
    scores: dict[int, float] = {}
    for member in found.members:
        classes = member.outputs if by_outputs else _read_classes(found, member)
        if classes is None:
            continue
        judged = _judge(member, criterion, by_outputs, measured.get(member.layer.name))
        if not criterion.comparable:
            judged = judged / max(float(judged.mean()), 1e-300)
        for unit, score in zip(classes.tolist(), judged.tolist(), strict=True):
            scores[unit] = scores.get(unit, 0.0) + score
    return scores


def _read_classes(found: Dependencies, member: Member) -> npt.NDArray[np.intp] | None:
    """Classes of the input slices of the weight; of a depthwise layer those of its filters."""
    if member.inputs is None and member.reads and member.layer.groups > 1:
        return member.outputs
    return member.inputs


def _judge(member: Member, criterion: Criterion, by_outputs: bool, measured: Measured | None) -> Scores:
    layer = member.layer
    subject = Subject(layer.weight_name, layer.array(), layer.groups, measured)
    sliced = by_outputs or member.inputs is None
    judge = criterion.filters if sliced else criterion.channels
    if judge is not None:
        return judge(subject)
    if criterion.weights is None:
        return np.zeros(len(subject.weight))
    means: Scores = criterion.weights(subject).mean(axis=(1, 2) if sliced else (0, 1))
    return means


def _best(found: Dependencies, scores: Mapping[int, float]) -> set[int]:
    """The best unit of every axis: it stays, so that no tensor ends up empty."""
    return {max(row.tolist(), key=lambda unit: (scores.get(unit, 0.0), unit)) for row in found.rows()}


def _candidate(
    found: Dependencies, group: Group, best: set[int], scores: Mapping[int, float], spec: PruneSpec
) -> Candidate:
    staying = best | {unit for unit in group.units if found.table.reason(unit)}
    order = sorted(set(group.units) - staying, key=lambda unit: (scores.get(unit, 0.0), unit))
    size = spec.round_to // gcd(spec.round_to, group.per_unit)
    total = len(group.units)
    lowest = max(1, total - len(order))
    kept = [count for count in range(total - 1, lowest - 1, -1) if count % size == 0]
    costs = np.array([scores.get(unit, 0.0) for unit in order])
    return Candidate(group, order, costs, [0, *(total - count for count in kept)])


def _normalize(candidates: Sequence[Candidate], criterion: Criterion) -> None:
    """Costs that can be compared between groups."""
    for entry in candidates:
        if not criterion.comparable and entry.costs.size:
            entry.costs = select.layer_adaptive(entry.costs)


def _choose(candidates: Sequence[Candidate], spec: PruneSpec, cost: Cost) -> None:
    """Take steps until the budget is met as nearly as steps allow."""
    if spec.scope == "layer":
        return _choose_evenly(candidates, spec, cost)
    by_macs = spec.budget == "macs"
    total = cost.total if by_macs else sum(entry.group.width for entry in candidates)
    left = spec.amount * total
    while True:
        best, best_price, best_saving = None, np.inf, 0.0
        for entry in candidates:
            units = entry.next_units
            if not units:
                continue
            saving = cost.saved(units) if by_macs else float(len(units) * entry.group.per_unit)
            start = entry.steps[entry.taken]
            price = float(entry.costs[start : start + len(units)].sum()) / max(saving, 1e-30)
            if price < best_price:
                best, best_price, best_saving = entry, price, saving
        if best is None or best_saving / 2 > left:
            return
        cost.remove(best.next_units)
        best.taken += 1
        left -= best_saving


def _choose_evenly(candidates: Sequence[Candidate], spec: PruneSpec, cost: Cost) -> None:
    """The same share of every group; for MACs, the share that saves nearest to what is wanted."""
    if spec.budget == "channels":
        return _take_share(candidates, spec.amount)
    wanted = spec.amount * cost.total
    shares = np.linspace(0.0, 1.0, 257)
    savings = []
    for share in shares:
        _take_share(candidates, float(share))
        savings.append(cost.saved([unit for entry in candidates for unit in entry.gone]))
    _take_share(candidates, float(shares[int(np.argmin(np.abs(np.array(savings) - wanted)))]))


def _take_share(candidates: Sequence[Candidate], share: float) -> None:
    for entry in candidates:
        wanted = share * len(entry.group.units)
        entry.taken = int(np.argmin([abs(step - wanted) for step in entry.steps]))


def compose(first: Mapping[str, Mapping[int, Any]], then: Kept) -> Kept:
    """What is left of the original tensors after two removals."""
    result: Kept = {name: dict(axes) for name, axes in first.items()}
    for name, axes in then.items():
        for axis, indices in axes.items():
            before = result.setdefault(name, {}).get(axis)
            result[name][axis] = indices if before is None else before[indices]
    return result
