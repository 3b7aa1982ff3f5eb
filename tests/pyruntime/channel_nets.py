"""Networks for the tests of channel removal, and the comparison they all make."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_nets import Net
from toolmodels import make_run

from pyruntime import graph
from pyruntime.evaluate import runtime
from pyruntime.frontends.onnx import load
from pyruntime.prune.dependency import Dependencies, analyse, mask, shrink


class ChannelNet(Net):
    """A `Net` with float weights only and a few layers more."""

    def filters(self, x: str, inputs: int, outputs: int, kernel: int = 1, **more: Any) -> str:
        return self.conv(x, inputs, outputs, kernel, dq=False, **more)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        w = self.constant((self.rng.standard_normal((outputs, inputs)) / inputs**0.5).astype(np.float32), "w")
        return str(self.op("Gemm", x, w, self.bias(outputs, 0.3), transB=1))

    def tokens(self, x: str, inputs: int, outputs: int) -> str:
        w = self.constant((self.rng.standard_normal((inputs, outputs)) / inputs**0.5).astype(np.float32), "w")
        return str(self.op("Add", self.op("MatMul", x, w), self.bias(outputs, 0.3)))

    def reshape(self, x: str, *shape: int) -> str:
        return str(self.op("Reshape", x, self.constant(np.array(shape, np.int64))))

    def per_channel(self, channels: int) -> str:
        return self.constant(self.rng.standard_normal((1, channels, 1, 1)).astype(np.float32))

    def head(self, x: str, channels: int) -> ir.Model:
        """Pooling and a dense layer to the output; the canonical model."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.finish(self.dense(flat, channels, 5))

    def finish(self, y: str) -> ir.Model:
        self.output(y)
        return load(self.model(), check=False)


def removable(found: Dependencies, rng: np.random.Generator, share: float = 0.5) -> set[int]:
    """A random part of the classes that may go; one stays on every axis."""
    free = sorted({unit for row in found.rows() for unit in row.tolist() if not found.table.reason(unit)})
    dead = {unit for unit in free if rng.random() < share}
    for row in found.rows():
        if dead.issuperset(row.tolist()):
            dead.discard(int(row[0]))
    return dead


def check_removal(model: ir.Model, dead: set[int] | None = None, *, seed: int = 0) -> ir.Model:
    """The shrunk model, after checking that it equals the masked one in ONNX Runtime and in ours."""
    rng = np.random.default_rng(seed)
    if dead is None:
        dead = removable(analyse(model), rng)
    masked, shrunk = graph.clone(model), graph.clone(model)
    mask(masked, analyse(masked), dead)
    shrink(shrunk, analyse(shrunk), dead)
    feeds = {
        value.name or "": rng.standard_normal(
            [2 if i == 0 else d for i, d in enumerate(graph.dims(value))]
        ).astype(np.float32)
        for value in model.graph.inputs
    }
    wanted, found = make_run(masked)(feeds), make_run(shrunk)(feeds)
    ours = runtime(shrunk)(feeds)
    for name, array in wanted.items():
        scale = np.abs(array).max() + 1e-6
        np.testing.assert_allclose(found[name] / scale, array / scale, atol=2e-5, rtol=0)
        np.testing.assert_allclose(ours[name] / scale, array / scale, atol=2e-5, rtol=0)
    return shrunk


def weights(model: ir.Model) -> int:
    """Entries of all float constants."""
    arrays = (graph.constant(value) for value in model.graph.initializers.values())
    return sum(array.size for array in arrays if array is not None and array.dtype == np.float32)
