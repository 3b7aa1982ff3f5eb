"""Run a model over data and see any of its tensors: the float program lowered from it, in our own runtime."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import ModelError

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
MakeRun = Callable[[ir.Model], Run]

# Samples run together: enough to fill the machine, few enough that a batch of all tensors fits in memory.
SMALL_SAMPLE = 1 << 13
SMALL_BATCH, LARGE_BATCH = 64, 8
# Bytes that all tensors of a batch may take, as far as single samples allow.
BATCH_BYTES = 1 << 29


def observe(
    model: ir.Model,
    data: Mapping[str, Array],
    tensors: Sequence[str],
    make_run: MakeRun | None = None,
    *,
    batch: int | None = None,
) -> Iterator[dict[str, Array]]:
    """Values of the named tensors, batch by batch of the data: memory does not grow with the samples.

    Args:
        model: canonical model, float or with Q/DQ. Only the part that makes the tensors runs.
        data: one array per network input, first axis = samples.
        tensors: names of values; network inputs are allowed. One with a view (`graph.set_view`) comes as the
            view shows it.
        make_run: turns a model whose outputs are the tensors into a function of a batch; default: our
        runtime.
        batch: samples run together; default: `batch_size(model, data)`. Two models of unequal layers whose
        batches are to be compared one by one need the same.
    """
    inputs = {value.name or "" for value in model.graph.inputs}
    made = [name for name in dict.fromkeys(tensors) if name not in inputs]
    views = _views(model, made)
    run = (make_run or runtime)(with_outputs(model, made)) if made else None
    for feed in batches(data, batch or batch_size(model, data), fixed=bool(fixed_batch(model))):
        found = {name: feed[name] for name in tensors if name in inputs}
        if run is not None:
            found.update(run(feed))
        for name, value in views.items():
            found[name] = graph.viewed(value, found[name])
        yield found


def _views(model: ir.Model, tensors: Sequence[str]) -> dict[str, ir.Value]:
    """Those of the tensors that are seen through a view."""
    wanted = set(tensors)
    values = (value for node in model.graph for value in node.outputs if value.name in wanted)
    return {value.name or "": value for value in values if graph.has_view(value)}


def with_outputs(model: ir.Model, tensors: Sequence[str]) -> ir.Model:
    """Copy of the model whose outputs are the named tensors, without the nodes that do not lead to them.

    Errors: ModelError if a tensor does not exist.
    """
    copy = graph.clone(model)
    values = {output.name: output for node in copy.graph for output in node.outputs}
    for name in tensors:
        if name not in values:
            raise ModelError(f"tensor '{name}': no node of the model makes it")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in tensors)
    graph.remove_dead_nodes(copy)
    return copy


def runtime(model: ir.Model) -> Run:
    """The model in our runtime."""
    from pyruntime.lower import lower
    from pyruntime.session import InferenceSession

    session = InferenceSession(lower(model))
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(batch: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(outputs, session.run(None, {name: batch[name] for name in inputs}), strict=True))

    return run


def sample_count(data: Mapping[str, Array]) -> int:
    """Number of samples, the first axis of every array."""
    return min((len(array) for array in data.values()), default=0)


def batches(data: Mapping[str, Array], size: int, fixed: bool = False) -> Iterator[dict[str, Array]]:
    """The data in batches of `size` samples; if it is fixed, a rest that does not fill one is left out."""
    count = sample_count(data)
    for start in range(0, count - size + 1 if fixed else count, size):
        yield {name: np.ascontiguousarray(array[start : start + size]) for name, array in data.items()}


def batch_size(model: ir.Model, data: Mapping[str, Array]) -> int:
    """Samples to run together: the model's own batch size where that is fixed, else what memory allows."""
    fixed = fixed_batch(model)
    if fixed:
        return fixed
    largest = max(int(np.prod(array.shape[1:])) for array in data.values())
    size = SMALL_BATCH if largest <= SMALL_SAMPLE else LARGE_BATCH
    each = sample_bytes(model, data)
    while size > 1 and size * each > BATCH_BYTES:
        size //= 2
    return size


def sample_bytes(model: ir.Model, data: Mapping[str, Array]) -> int:
    """Bytes of all tensors of the model for one sample; dimensions that are not known count as the largest of
    the inputs.
    """
    known: dict[int | str, int] = {}
    for value in model.graph.inputs:
        known.update(zip(graph.dims(value) or [], data[value.name or ""].shape, strict=False))
    largest = max((size for array in data.values() for size in array.shape[1:]), default=1)
    total = 0
    for node in model.graph:
        for output in node.outputs:
            sizes = [dim if isinstance(dim, int) else known.get(dim, largest) for dim in _rest(output)]
            total += 4 * math.prod(sizes)
    return total


def _rest(value: ir.Value) -> list[int | str]:
    """Dimensions of a value after the first, the samples."""
    return list(graph.dims(value) or [])[1:]


def fixed_batch(model: ir.Model) -> int:
    """The batch size the model insists on, 0 if any is welcome."""
    for value in model.graph.inputs:
        dims = graph.dims(value)
        if dims and isinstance(dims[0], int):
            return dims[0]
    return 0
