"""Find the recipe that reaches a target with the least loss, from the measured table.

Losses of single layers add up well enough to choose by (the errors are small and independent), so a choice is
the optimum of a knapsack (`allocate`). Whether the target is reached is measured on the compressed network
itself, and the budget of the knapsack corrected, a few times over.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import ModelError
from pyruntime.layers import find_layers
from pyruntime.lower import lower
from pyruntime.pack import dumps
from pyruntime.program import Program
from pyruntime.prune.apply import matching
from pyruntime.quantize.assignment import matches
from pyruntime.recipe import Recipe
from pyruntime.search.allocate import allocate, total
from pyruntime.search.latency import form, layer_times, whole_times
from pyruntime.search.options import Option, combined
from pyruntime.search.quality import Judge
from pyruntime.search.sensitivity import Row, measure
from pyruntime.target import Target

Array = npt.NDArray[Any]
Data = Mapping[str, Array]
Progress = Callable[[str, int, int], None] | None

SCHEMES = ("int8", "int7", "int6", "int5", "int4", "int3", "int2")
# For small files: few bits for few weights. For speed: zeros that kernels leave out.
SMALL = (
    *combined([""], SCHEMES),
    *combined(["weight=0.5", "weight=0.7", "weight=0.85", "weight=0.93"], ["int5", "int4", "int3"]),
)
FAST = (
    *combined(["", "weight=0.7", "weight=0.85", "weight=0.93"], ["int8"]),
    *combined([f"block4={share}" for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)], ["int8"]),
)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)

ANCHORS = 5  # forms of a layer for which the whole network runs
TRIES = 5  # compressed networks to reach a size or a latency with
CLOSE = 0.99  # a file that fills this share of its budget is good
HALVINGS = 6  # compressed networks to find the size at which the accuracy holds with


class Result(Protocol):
    """A compressed network."""

    @property
    def program(self) -> Program: ...


# A network compressed by a recipe that searches for nothing.
Compress = Callable[[Recipe, Data], Any]


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        recipe: names every layer; running it gives the same network.
        result: that network, as `Compress` gave it.
        reached: for people.
    """

    recipe: Recipe
    result: Any
    reached: str


class Search:
    """One target on one network.

    Args:
        model: the canonical float network, pruned as far as the recipe says.
        recipe: what is fixed beforehand.
        data: calibration data. judge: None unless the target speaks of accuracy.
    """

    def __init__(
        self, model: ir.Model, recipe: Recipe, data: Data, compress: Compress, progress: Progress = None
    ) -> None:
        self._model, self._recipe, self._data = model, recipe, data
        self._compress, self._progress = compress, progress
        self._layers: list[str] = []
        self._rows: list[list[Row]] = []
        self._float_bytes = 4 * sum(
            int(np.prod(array.shape))
            for array in map(graph.constant, model.graph.initializers.values())
            if array is not None and array.dtype == np.float32
        )

    def run(self, target: Target, judge: Judge | None = None) -> Found:
        """Errors: ModelError if the target is out of reach."""
        options = FAST if target.kind == "latency" else SMALL
        if not target.prune or self._recipe.prune:
            options = tuple(option for option in options if not option.prune)
        self._measure(options)
        if target.kind == "latency":
            return self._by_latency(target)
        costs = [[float(row.bytes) for row in rows] for rows in self._rows]
        if target.kind == "bits":
            return self._by_bits(target, costs)
        if target.kind == "accuracy_drop":
            assert judge is not None
            return self._by_accuracy(target, costs, judge)
        return self._by_size(target, costs)

    def _measure(self, options: Sequence[Option]) -> None:
        stage = self._stage("measure losses")
        rows = measure(self._model, self._data, options, anchors=ANCHORS, progress=stage)
        by_layer: dict[str, list[Row]] = {}
        fixed = {
            layer.name
            for layer in find_layers(self._model)
            if any(matches(layer, rule) for rule in self._recipe.layers)
        }
        for row in rows:
            if row.layer in fixed:
                continue
            by_layer.setdefault(row.layer, []).append(row)
        if not by_layer:
            raise ModelError("search: the network has no layer with a weight of its own; nothing to choose")
        self._layers, self._rows = list(by_layer), list(by_layer.values())

    def _choose(self, costs: Sequence[Sequence[float]], budget: float) -> list[int]:
        return allocate([[row.loss for row in rows] for rows in self._rows], costs, budget)

    def _try(self, choice: Sequence[int], number: int, tries: int) -> tuple[Recipe, Any]:
        recipe = self._recipe_of([rows[index].option for rows, index in zip(self._rows, choice, strict=True)])
        result = self._compress(recipe, self._data)
        if self._progress is not None:
            self._progress("try recipes", number + 1, tries)
        return recipe, result

    def _recipe_of(self, options: Sequence[Option]) -> Recipe:
        chosen = dict(zip(self._layers, options, strict=True))
        layers = {pattern(name): option.quantize for name, option in chosen.items()}
        base = self._recipe
        found = replace(
            base, prune=[*base.prune, *grouped(chosen)], layers={**layers, **base.layers}, target=None
        )
        return replace(found, recover=found.recover_steps(calibrated=True))

    def _by_bits(self, target: Target, costs: Sequence[Sequence[float]]) -> Found:
        weights = sum(rows[0].float_bytes // 4 for rows in self._rows)
        budget = target.value * weights / 8
        choice = self._choose(costs, budget)
        spent = total(costs, choice)
        if spent > budget * (1 + 1e-9):
            raise ModelError(
                f"--quantize {target.text}: cannot be reached; the least is {8 * spent / weights:.2f} bits"
            )
        recipe, result = self._try(choice, 0, 1)
        return Found(recipe, result, f"{8 * spent / weights:.2f} bits for each weight, expected")

    def _by_size(self, target: Target, costs: Sequence[Sequence[float]]) -> Found:
        limit = target.value * (self._float_bytes if target.relative else 1.0)
        # What is not in the table: biases, and a little that the first try shows.
        biases = 4.0 * sum(len(layer.array()) for layer in find_layers(self._model))
        overhead, best = biases + (1 - CLOSE) / 2 * limit, None
        tried: set[tuple[int, ...]] = set()
        for number in range(TRIES):
            choice = self._choose(costs, max(limit - overhead, 0.0))
            if tuple(choice) in tried:
                if best is not None:
                    break
                overhead += (1 - CLOSE) * limit
                continue
            tried.add(tuple(choice))
            recipe, result = self._try(choice, number, TRIES)
            size = len(dumps(result.program))
            if size <= limit and (best is None or size > best[0]):
                best = size, Found(recipe, result, f"{size:,} bytes of {limit:,.0f}")
            if CLOSE * limit <= size <= limit:
                break
            overhead = size - total(costs, choice)
        if best is None:
            raise ModelError(
                f"--target {target.text}: {limit:,.0f} bytes cannot be reached; the smallest file found has "
                f"{size:,}"
            )
        return best[1]

    def _by_accuracy(self, target: Target, costs: Sequence[Sequence[float]], judge: Judge) -> Found:
        """The least size whose measured drop is within the target, by bisection of its logarithm."""
        low = math.log(sum(min(row) for row in costs))
        high = math.log(sum(max(row) for row in costs))
        best: Found | None = None
        least = math.inf
        for number in range(HALVINGS + 1):
            middle = high if number == 0 else (low + high) / 2
            recipe, result = self._try(self._choose(costs, math.exp(middle)), number, HALVINGS + 1)
            drop = judge.drop(result.program)
            least = min(least, drop)
            if drop <= target.value:
                high = middle
                what = "accuracy lost" if judge.labelled else "of the classes changed"
                best = Found(
                    recipe, result, f"{drop:.2f} points {what}, {len(dumps(result.program)):,} bytes"
                )
            elif number == 0:
                raise ModelError(
                    f"--target {target.text}: cannot be reached; 8-bit weights already lose {drop:.2f} points"
                )
            else:
                low = middle
        assert best is not None
        return best

    def _by_latency(self, target: Target) -> Found:
        options = list(dict.fromkeys(row.option for rows in self._rows for row in rows))
        times, totals = layer_times(
            lambda recipe, few: (
                self._compress(replace(recipe, prune=[*self._recipe.prune, *recipe.prune]), few).program
            ),
            self._data,
            options,
            progress=self._stage("measure times"),
        )
        dense = form(Option())
        costs = [[times.get((row.layer, form(row.option)), 0.0) for row in rows] for rows in self._rows]
        fixed = totals[dense] - sum(times.get((layer, dense), 0.0) for layer in self._layers)
        floating = lower(self._model)
        limit = target.value * (whole_times([floating], self._data)[0] if target.relative else 1.0)
        budget, best, fastest = limit - fixed, None, math.inf
        tried: set[tuple[int, ...]] = set()
        for number in range(TRIES):
            choice = self._choose(costs, max(budget, 0.0))
            if tuple(choice) in tried:
                break
            tried.add(tuple(choice))
            recipe, result = self._try(choice, number, TRIES)
            before, now = whole_times([floating, result.program], self._data)
            if target.relative:
                limit = target.value * before
            fastest = min(fastest, now)
            if now <= limit:
                best = Found(recipe, result, f"{now:,.0f} us of {limit:,.0f} (float32: {before:,.0f})")
                break
            budget = total(costs, choice) - 1.1 * (now - limit)
        if best is None:
            raise ModelError(
                f"--target {target.text}: {limit:,.0f} us cannot be reached; the fastest network found takes "
                f"{fastest:,.0f}"
            )
        return best

    def _stage(self, name: str) -> Any:
        progress = self._progress
        return None if progress is None else lambda done, steps: progress(name, done, steps)


def pattern(name: str) -> str:
    """A pattern that matches this name and fits into a word of `--prune`, which ends at a comma."""
    return glob.escape(name).replace(",", "?").strip() or "?"


def grouped(chosen: Mapping[str, Option]) -> list[str]:
    """Words of `--prune` for the layers that lose weights, one for each form of pruning."""
    heads: dict[str, list[str]] = {}
    for layer, option in chosen.items():
        if option.prune:
            heads.setdefault(option.prune, []).append(layer)
    return [
        ",".join([head, "scope=layer", *(f"only={pattern(layer)}" for layer in layers)])
        for head, layers in heads.items()
    ]


def share_budgets(model: ir.Model, recipe: Recipe, data: Data, progress: Progress = None) -> Recipe:
    """The recipe with each `scope=budget` as words for single layers: the same share of all weights falls,
    from each layer as much as costs the outputs least.
    """
    prunes: list[str] = []
    for text, spec in zip(recipe.prune, recipe.prune_specs(), strict=True):
        if spec.scope != "budget":
            prunes.append(text)
            continue
        names, excluded = matching(find_layers(model), spec)
        options = [Option("none", f"{spec.granularity}={share}" if share else "") for share in SHARES]
        stage = None if progress is None else lambda done, steps: progress("measure losses", done, steps)
        rows = [
            row
            for row in measure(model, data, options, anchors=ANCHORS, progress=stage)
            if row.layer in names and row.layer not in excluded
        ]
        layers = list(dict.fromkeys(row.layer for row in rows))
        table = [[row for row in rows if row.layer == layer] for layer in layers]
        costs = [[row.float_bytes * (1 - row.zeros) for row in found] for found in table]
        budget = (1 - spec.amount) * sum(found[0].float_bytes for found in table)
        choice = allocate([[row.loss for row in found] for found in table], costs, budget)
        chosen = {row.layer: row.option for row in (found[i] for found, i in zip(table, choice, strict=True))}
        prunes += [f"{word},criterion={spec.criterion}" for word in grouped(chosen)]
    return replace(recipe, prune=prunes)
