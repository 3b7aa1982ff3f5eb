"""pytest-benchmark suite of single kernels on layers of the race's networks: `pytest bench/test_kernels.py`.

Every usable row of the convolution and depthwise families, one thread, warm. Shapes are written as in
`bench/kernels/conv_int8.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last: the installed pyruntime goes before the sources

from bench.kernels.conv_int8 import layer
from pyruntime import _core

# Of ResNet-50 (stem, 3x3 and 1x1 of every stage), MobileNetV2 (expand, project) and the MLP.
CONVOLUTIONS = [
    *("112x112x3x64x7x2", "56x56x64x64x3x1", "56x56x64x256x1x1", "28x28x128x128x3x1", "14x14x256x1024x1x1"),
    *("7x7x2048x512x1x1", "56x56x24x144x1x1", "14x14x576x96x1x1", "1x1x4096x4096x1x1"),
]
DEPTHWISE = ["112x112x32xdwx3x1", "56x56x144xdwx3x1", "14x14x576xdwx3x1"]


def rows(kernels: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in kernels if row["usable"]]


@pytest.mark.parametrize("shape", CONVOLUTIONS)
@pytest.mark.parametrize("row", rows(_core.testing.conv_int8_kernels()))
def test_convolution(row: str, shape: str, benchmark: Any) -> None:
    measure(row, shape, benchmark)


@pytest.mark.parametrize("shape", DEPTHWISE)
@pytest.mark.parametrize("row", rows(_core.testing.depthwise_int8_kernels()))
def test_depthwise(row: str, shape: str, benchmark: Any) -> None:
    measure(row, shape, benchmark)


def measure(row: str, shape: str, benchmark: Any) -> None:
    """`extra_info` gets the kernel's own best time; what the suite times includes packing the weights."""
    run, x, w, y, arguments, macs = layer(shape, "u8", np.random.default_rng(0))
    seconds = run(row, x, w, y, arguments, 5, 1)
    if seconds is None:
        pytest.skip(f"{row} does not take this layer")
    benchmark.extra_info["gmacs_per_second"] = macs / seconds * 1e-9
    benchmark.pedantic(run, (row, x, w, y, arguments, 1, 1), rounds=3)
