"""A model run front to back over data, each node once, while the weights ahead may still change.

Recovery treats layers in order, and each must see what the layers before it became. Running the network anew
for every layer costs the square of its depth. So the tensors at a cut through the network are kept for all
samples, and the cut moves on from layer to layer: only the nodes in between run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.evaluate import MakeRun, batch_size, batches, fixed_batch, runtime

Array = npt.NDArray[Any]

# Bytes of tensors at the cut that stay in memory; the batches beyond wait in temporary files.
MEMORY_BYTES = 1 << 30

# What a program takes for an input; tensors of another type, or of unknown shape, are made again from what
# they come from.
KEPT_TYPES = (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32)


class Prefix:
    """A model cut in two: the nodes before the cut have run, those behind it have not.

    Only weights behind the cut may change.
    """

    def __init__(
        self,
        model: ir.Model,
        data: Mapping[str, Array],
        make_run: MakeRun | None = None,
        *,
        batch: int | None = None,
    ) -> None:
        """Args: as `evaluate.observe`. The cut is before the first node."""
        self._model = model
        self._make_run = make_run or runtime
        self._place = {node: index for index, node in enumerate(graph.topological_nodes(model))}
        self._cut = 0
        self._live: list[str] = []
        feeds = batches(data, batch or batch_size(model, data), fixed=bool(fixed_batch(model)))
        self._feeds = list(feeds)
        self._kept = _Batches(len(self._feeds))

    def advance(self, node: ir.Node, *, past: bool = False) -> None:
        """Move the cut forward to just before a node, or just past it; never back."""
        cut = self._place[node] + past
        if cut <= self._cut:
            return
        live = self._live_at(cut)
        made = [name for name in live if name not in self._live]
        run = self._run(made)
        for index, feed in enumerate(self._feeds):
            before = self._kept.get(index)
            found = run({**feed, **before}) if run is not None else {}
            self._kept.put(index, {name: found[name] if name in found else before[name] for name in live})
        self._live, self._cut = live, cut

    def values(self, tensors: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Values of tensors, batch by batch; those made behind the cut are computed for this and not kept.

        As in `evaluate.observe`, a tensor with a view comes as the view shows it.
        """
        inputs = {value.name for value in self._model.graph.inputs}
        made = [name for name in dict.fromkeys(tensors) if name not in inputs and name not in self._live]
        run = self._run(made)
        seen = {value.name: value for value in self._values(set(tensors)) if graph.has_view(value)}
        for index, feed in enumerate(self._feeds):
            known = {**feed, **self._kept.get(index)}
            if run is not None:
                known.update(run(known))
            yield {
                name: graph.viewed(seen[name], known[name]) if name in seen else known[name]
                for name in tensors
            }

    def results(self, node: ir.Node, forms: Sequence[ir.Model]) -> Iterator[list[Array]]:
        """As `variants`, but what the node itself makes, in each form."""
        made = node.outputs[0].name or ""
        heads = [self._part(form, self._live, [made]) for form in forms]
        for index, feed in enumerate(self._feeds):
            known = {**feed, **self._kept.get(index)}
            yield [head(known)[made] for head in heads]

    def variants(self, node: ir.Node, forms: Sequence[ir.Model]) -> Iterator[list[dict[str, Array]]]:
        """Outputs of the network, batch by batch, one dict for each form of the first node behind the cut.

        Args:
            node: that node, with one output.
            forms: copies of the model that differ in this node alone. What comes after it is built once.
        """
        made = node.outputs[0].name or ""
        inputs = [value.name or "" for value in self._model.graph.inputs]
        names = [value.name or "" for value in self._model.graph.outputs]
        behind = [name for name in dict.fromkeys(names) if name not in (made, *self._live, *inputs)]
        heads = [self._part(form, self._live, [made]) for form in forms]
        rest = self._part(self._model, [*self._live, made], behind) if behind else None
        for index, feed in enumerate(self._feeds):
            known = {**feed, **self._kept.get(index)}
            found = []
            for head in heads:
                values = {**known, **head(known)}
                if rest is not None:
                    values.update(rest(values))
                found.append({name: values[name] for name in names})
            yield found

    def _values(self, names: set[str]) -> Iterator[ir.Value]:
        return (value for node in self._place for value in node.outputs if value.name in names)

    def _live_at(self, cut: int) -> list[str]:
        """Tensors to keep: made before the cut and read behind it."""
        ahead = [node for node, place in self._place.items() if place >= cut]
        wanted = [value for node in ahead for value in node.inputs if value is not None]
        wanted.extend(list(self._model.graph.outputs))
        found: dict[str, None] = {}
        seen: set[ir.Value] = set()
        while wanted:
            value = wanted.pop()
            producer = value.producer()
            if value in seen or producer is None or self._place[producer] >= cut:
                continue
            seen.add(value)
            if value.dtype in KEPT_TYPES and graph.dims(value) is not None:
                found[value.name or ""] = None
            else:
                wanted += [source for source in producer.inputs if source is not None]
        return sorted(found)

    def _run(self, tensors: Sequence[str]) -> Any:
        """Function from the tensors at the cut and the network's inputs to those asked for."""
        if not tensors:
            return None
        return self._part(self._model, self._live, tensors)

    def _part(self, model: ir.Model, given: Sequence[str], tensors: Sequence[str]) -> Any:
        part = cut_model(model, given, tensors)
        names = [value.name or "" for value in part.graph.inputs]
        run = self._make_run(part)
        return lambda known: run({name: known[name] for name in names})


def cut_model(model: ir.Model, given: Iterable[str], tensors: Sequence[str]) -> ir.Model:
    """Copy of the part of a model that makes the tensors from others that are given (and from its inputs)."""
    copy = graph.clone(model)
    values = {output.name: output for node in copy.graph for output in node.outputs}
    for name in given:
        old = values[name]
        new = ir.Value(name=name, shape=old.shape, type=old.type)
        for use in old.uses():
            use.node.replace_input_with(use.idx, new)
        old.name = f"{name}_before_cut"
        copy.graph.inputs.append(new)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in tensors)
    graph.remove_dead_nodes(copy)
    for value in [value for value in copy.graph.inputs if not value.uses()]:
        copy.graph.inputs.remove(value)
    return copy


class _Batches:
    """The tensors of each batch, in memory up to `MEMORY_BYTES`, else in temporary files."""

    def __init__(self, count: int) -> None:
        self._held: list[dict[str, Array]] = [{} for _ in range(count)]
        self._bytes = 0  # of all that is held
        self._names: dict[int, list[str]] = {}  # of the batches in files
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def get(self, index: int) -> dict[str, Array]:
        if index not in self._names:
            return self._held[index]
        with self._path(index).open("rb") as file:
            return {name: np.load(file) for name in self._names[index]}

    def put(self, index: int, tensors: dict[str, Array]) -> None:
        size = _bytes(tensors)
        self._bytes -= _bytes(self._held[index])
        self._held[index] = {}
        self._names.pop(index, None)
        if self._bytes + size <= MEMORY_BYTES:
            self._held[index] = tensors
            self._bytes += size
            return
        with self._path(index).open("wb") as file:
            for array in tensors.values():
                np.save(file, array)
        self._names[index] = list(tensors)

    def _path(self, index: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory()
        return Path(self._folder.name) / f"{index}.npy"


def _bytes(tensors: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in tensors.values())
