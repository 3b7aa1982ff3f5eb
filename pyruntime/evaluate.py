"""Run a model over data and see any of its tensors: the float program lowered from it, in our own runtime."""

from __future__ import annotations

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


def observe(
    model: ir.Model, data: Mapping[str, Array], tensors: Sequence[str], make_run: MakeRun | None = None
) -> Iterator[dict[str, Array]]:
    """Values of the named tensors, batch by batch of the data.

    Args:
        model: canonical model, float or with Q/DQ. Only the part that makes the tensors runs.
        data: one array per network input, first axis = samples.
        tensors: names of values; network inputs are allowed.
        make_run: turns a model whose outputs are the tensors into a function of a batch; default: our
        runtime.
    """
    inputs = {value.name or "" for value in model.graph.inputs}
    made = [name for name in dict.fromkeys(tensors) if name not in inputs]
    run = (make_run or runtime)(with_outputs(model, made)) if made else None
    for batch in batches(model, data):
        found = {name: batch[name] for name in tensors if name in inputs}
        if run is not None:
            found.update(run(batch))
        yield found


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


def batches(model: ir.Model, data: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The data in batches that fit the model: of its own size where that is fixed (a rest is left out)."""
    count, fixed = sample_count(data), _fixed_batch(model)
    size = fixed or _batch_size(data)
    for start in range(0, count - size + 1 if fixed else count, size):
        yield {name: np.ascontiguousarray(array[start : start + size]) for name, array in data.items()}


def _batch_size(data: Mapping[str, Array]) -> int:
    largest = max(int(np.prod(array.shape[1:])) for array in data.values())
    return SMALL_BATCH if largest <= SMALL_SAMPLE else LARGE_BATCH


def _fixed_batch(model: ir.Model) -> int:
    """The batch size the model insists on, 0 if any is welcome."""
    for value in model.graph.inputs:
        dims = graph.dims(value)
        if dims and isinstance(dims[0], int):
            return dims[0]
    return 0
