"""Times the float and byte-wise kernel rows of this CPU, one thread, data warm.

python bench/kernels/float_kernels.py [--family conv_f32|depthwise_f32|elementwise|pool|lut|quantize]...

Convolutions: GFLOP/s per row. The others: nanoseconds per element.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from pyruntime import _core

testing = _core.testing
MODE = testing.Mode(repeat=50, flush_denormals=True)
RNG = np.random.default_rng(0)
N = 16384
# rows, cols, channels, output channels, window
CONVOLUTIONS = [(14, 14, 64, 64, 3), (56, 56, 64, 64, 3), (14, 14, 256, 1024, 1), (7, 7, 512, 512, 3)]
CONVOLUTIONS += [(112, 112, 32, 16, 1), (1, 1, 512, 512, 1), (1, 1, 2048, 4096, 1), (1, 8, 1024, 1024, 1)]
# rows, cols, channels, window, stride
DEPTHWISE = [
    (112, 112, 32, 3, 1),
    (56, 56, 144, 3, 1),
    (14, 14, 384, 3, 1),
    (28, 28, 192, 3, 2),
    (14, 14, 240, 5, 1),
]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def report(
    family: str, title: str, run: Callable[[str], tuple[Any, float]], unit: Callable[[float], float]
) -> None:
    """One line: `unit(seconds)` of every usable row, weakest ISA first."""
    rows = [row for row in testing.float_rows(family) if row["usable"]]
    figures = "  ".join(f"{row['isa']} {unit(run(row['name'])[1]):8.3f}" for row in rows)
    print(f"{family:14} {title:24} {figures}", flush=True)


def convolutions() -> None:
    for rows, cols, k, n, window in CONVOLUTIONS:
        x, w, bias = normal(rows + window - 1, cols + window - 1, k), normal(n, window, window, k), normal(n)
        flops = 2 * rows * cols * k * n * window * window

        def run(row: str, x: Any = x, w: Any = w, bias: Any = bias) -> tuple[Any, float]:
            mode = testing.Mode(repeat=1, flush_denormals=True) if row.endswith("scalar") else MODE
            return testing.conv_f32(row, x, w, bias, mode=mode)

        report("conv_f32", f"{rows}x{cols}x{k}x{n}x{window}", run, lambda t, f=flops: f / t / 1e9)


def depthwise() -> None:
    for rows, cols, channels, window, stride in DEPTHWISE:
        x = normal((rows - 1) * stride + window, (cols - 1) * stride + window, channels)
        w, bias = normal(window, window, channels), normal(channels)
        flops = 2 * rows * cols * channels * window * window

        def run(
            row: str, x: Any = x, w: Any = w, bias: Any = bias, stride: int = stride
        ) -> tuple[Any, float]:
            return testing.depthwise_f32(row, x, w, bias, stride, mode=MODE)

        title = f"{rows}x{cols}x{channels}x{window}/{stride}"
        report("depthwise_f32", title, run, lambda t, f=flops: f / t / 1e9)


def elementwise() -> None:
    f, g = 2 * normal(N), normal(N)
    a, b = RNG.integers(0, 256, (2, N), dtype=np.uint8)
    calls: dict[str, Callable[[str], tuple[Any, float]]] = {
        name: lambda row, name=name: testing.unary_f32(row, name, f, 0.1, 0.5, mode=MODE)
        for name in (
            "relu",
            "sigmoid",
            "hard_swish",
            "tanh",
            "gelu",
            "silu",
            "exp",
            "sqrt",
            "erf",
            "reciprocal",
        )
    }
    calls["add"] = lambda row: testing.binary_f32(row, "add", f, g, mode=MODE)
    calls["softmax"] = lambda row: testing.softmax_f32(row, f, MODE)
    calls["add_u8"] = lambda row: testing.add_u8(row, a, b, 0.5, 0.3, 1.0, mode=MODE)
    calls["mul_u8"] = lambda row: testing.mul_u8(row, a, b, 3, 4, 0.01, 1.0, mode=MODE)
    for title, run in calls.items():
        report("elementwise", title, run, lambda t: t / N * 1e9)


def pool() -> None:
    x = RNG.integers(0, 256, (9, 256), dtype=np.uint8)
    f, image = normal(9, 256), RNG.integers(0, 256, (49, 1280), dtype=np.uint8)
    per_value = lambda count: lambda t: t / count * 1e9  # noqa: E731
    report("pool", "max_u8 9x256", lambda row: testing.pool(row, "max", x, mode=MODE), per_value(x.size))
    report("pool", "max_f32 9x256", lambda row: testing.pool(row, "max", f, mode=MODE), per_value(f.size))
    report(
        "pool", "average_u8 9x256", lambda row: testing.pool(row, "average", x, mode=MODE), per_value(x.size)
    )
    report(
        "pool", "average_f32 9x256", lambda row: testing.pool(row, "average", f, mode=MODE), per_value(f.size)
    )
    run = lambda row: testing.pool(row, "global_average", image, mode=MODE)  # noqa: E731
    report("pool", "global_average 49x1280", run, per_value(image.size))


def lut() -> None:
    x, table = RNG.integers(0, 256, N, dtype=np.uint8), RNG.permutation(256).astype(np.uint8)
    report("lut", f"{N}", lambda row: testing.lut(row, x, table, MODE), lambda t: t / N * 1e9)


def quantize() -> None:
    f, u, planes = normal(N), RNG.integers(0, 256, N, dtype=np.uint8), normal(3, N)
    report(
        "quantize",
        "quantize",
        lambda row: testing.quantize(row, f, 0.03, 100, 0, MODE),
        lambda t: t / N * 1e9,
    )
    report(
        "quantize",
        "dequantize",
        lambda row: testing.dequantize(row, u, 0.03, 100, 0, MODE),
        lambda t: t / N * 1e9,
    )
    for pitch in (3, 4):
        run = lambda row, pitch=pitch: testing.planes_to_pixels(row, planes, 0.03, 100, pitch, MODE)  # noqa: E731
        report("quantize", f"3 planes, pitch {pitch}", run, lambda t: t / planes.size * 1e9)


FAMILIES = {
    "conv_f32": convolutions,
    "depthwise_f32": depthwise,
    "elementwise": elementwise,
    "pool": pool,
    "lut": lut,
    "quantize": quantize,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", choices=list(FAMILIES), default=None)
    for family in parser.parse_args().family or list(FAMILIES):
        FAMILIES[family]()


if __name__ == "__main__":
    main()
