"""reduce_mean in the core: the same bits on every instruction set, whatever lies side by side in memory."""

from __future__ import annotations

import numpy as np
import pytest

from pyruntime import _core, reference
from tests.pyruntime.core_programs import Builder, core_session


@pytest.mark.parametrize("axes", [[0], [1], [2], [1, 2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("inner", [1, 3, 8, 15, 16, 17, 63, 64, 65, 130])
def test_means(inner: int, axes: list[int]) -> None:
    for keepdims in (0, 1):
        b = Builder(inner)
        x = b.input("f32", ["N", 9, inner])
        program = b.finish(b.node("reduce_mean", [x], "f32", axes=axes, keepdims=keepdims))
        feed = b.feed(N=21)
        expected = reference.run(program, feed)[program.outputs[0]]
        results = []
        for isa in _core.available_isas():
            for threads in (1, 2):
                results += core_session(program, isa, threads).run([feed[x]])
        for got in results:
            assert got.shape == expected.shape
            assert got.tobytes() == results[0].tobytes()
        np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=1e-6)
