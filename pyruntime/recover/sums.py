"""What recovery gathers of one layer on the compressed prefix: sums over inputs and wanted outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.layers import Layer
from pyruntime.prefix import Prefix
from pyruntime.recover.common import value_name

Array = npt.NDArray[Any]


@dataclass
class Sums:
    """Sums over rows of inputs x `[k]` and of wanted outputs y `[out]` of one group of a layer; float64."""

    count: int = 0
    x: Array | float = 0.0
    y: Array | float = 0.0
    xx: Array | float = 0.0
    yx: Array | float = 0.0

    def update(self, x: Array, y: Array | None) -> None:
        """Add rows x `[n, k]`, y `[n, out]`; y is None if the float layer is to be had on the same inputs."""
        self.count += len(x)
        self.x = self.x + x.sum(axis=0, dtype=np.float64)
        self.xx = self.xx + (x.T @ x).astype(np.float64)
        if y is not None:
            self.y = self.y + y.sum(axis=0, dtype=np.float64)
            self.yx = self.yx + (y.T @ x).astype(np.float64)

    def means(self) -> tuple[Array, Array]:
        """Of x `[k]` and of y `[out]`."""
        return np.asarray(self.x) / self.count, np.asarray(self.y) / self.count

    def moments(self, centred: bool = True) -> tuple[Array, Array | None]:
        """Second moments of x `[k, k]` and of y with x `[out, k]` (None without y); centred: covariances."""
        x, y = self.means()
        xx = np.asarray(self.xx) / self.count
        yx = np.asarray(self.yx) / self.count if np.ndim(self.yx) else None
        if centred:
            xx = xx - np.outer(x, x)
            yx = None if yx is None else yx - np.outer(y, x)
        return xx, yx


def inputs_and_targets(
    layer: Layer, original: Layer, partner: str, now: Prefix, then: Prefix
) -> Iterator[tuple[Array, Array]]:
    """Batch by batch: what the layer reads in the network as it became, and the outputs wanted of it.

    Those are the outputs of the float layer. Where they are summed with a tensor that is there already (a
    residual, `common.summed_with`), they make up for the error of that tensor too.

    Args:
        partner: the name of that tensor, "" if there is none.
        now, then: the network as it becomes, the float network; moved to just before and just past the layer.
    """
    now.advance(layer.node)
    then.advance(original.node, past=True)
    source, result = value_name(layer.node.inputs[0]), value_name(original.node.outputs[0])
    names = [partner] if partner else []
    pairs = zip(now.values([source, *names]), then.values([result, *names]), strict=True)
    for values, wanted in pairs:
        y = wanted[result]
        if partner and values[partner].shape == y.shape:
            y = y + (wanted[partner] - values[partner])
        yield values[source], y
