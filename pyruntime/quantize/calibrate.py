"""Choose the ranges of activations from data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from pyruntime.evaluate import MakeRun, observe
from pyruntime.quantize.observers import OBSERVERS
from pyruntime.quantize.ranges import Range
from pyruntime.quantize.spec import QuantizeSpec


def calibrate(
    model: ir.Model,
    data: Mapping[str, npt.NDArray[Any]],
    spec: QuantizeSpec,
    tensors: Sequence[str],
    *,
    make_run: MakeRun | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Range]:
    """Ranges of the named tensors of a float model over the data, by the observer that `spec.calibrate`
    names.

    Args:
        data: one array per network input, first axis = samples.
        make_run: see `evaluate.observe`.
        progress: called with the number of samples done so far.
    Errors: DataError if a tensor has no finite value.
    """
    observers = {name: OBSERVERS[spec.calibrate](name) for name in tensors}
    done = 0
    for values in observe(model, data, tensors, make_run):
        for name, observer in observers.items():
            observer.update(values[name])
        done += max((len(array) for array in values.values() if array.ndim), default=0)
        if progress is not None:
            progress(done)
    return {name: observer.range() for name, observer in observers.items()}
