"""How a compressed network is judged: the accuracy it loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.errors import DataError, ModelError
from pyruntime.evaluate import batch_size, batches, fixed_batch
from pyruntime.lower import lower
from pyruntime.program import Program
from pyruntime.session import InferenceSession

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Judge:
    """Accuracy lost against the float network on given samples, in points.

    Attributes:
        wanted: class of each sample: its label, or what the float network says if there are no labels.
        reference: share of samples that the float network gets right.
    """

    data: Mapping[str, Array]
    batch: int
    wanted: Array
    reference: float
    labelled: bool

    @classmethod
    def of(cls, model: ir.Model, data: Mapping[str, Array], labels: Array | None) -> Judge:
        """Errors: ModelError if the first output is no `[samples, classes]`; DataError for labels of another
        number.
        """
        batch = fixed_batch(model) or batch_size(model, data)
        found = _classes(lower(model), data, batch)
        if labels is not None and labels.shape != found.shape:
            raise DataError(
                f"labels have shape {list(labels.shape)}, expected [{len(found)}], one for each sample"
            )
        wanted = found if labels is None else labels
        return cls(data, batch, wanted, float((found == wanted).mean()), labels is not None)

    def drop(self, program: Program) -> float:
        """Points: with labels accuracy lost, without them samples whose class changes."""
        return 100 * (
            self.reference - float((_classes(program, self.data, self.batch) == self.wanted).mean())
        )


def _classes(program: Program, data: Mapping[str, Array], batch: int) -> Array:
    session = InferenceSession(program)
    found = [session.run(None, feed)[0] for feed in batches(data, batch)]
    if found[0].ndim != 2:
        raise ModelError(
            f"output '{program.outputs[0]}' has shape {list(found[0].shape)}; an accuracy target needs "
            "[samples, classes]; use size or bits"
        )
    classes: Array = np.concatenate(found).argmax(axis=1)
    return classes
