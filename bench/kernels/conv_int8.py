"""Times kernel rows on layer shapes, one thread, weights and activations warm.

python bench/kernels/conv_int8.py [--row TEXT] [--epilogue u8|residual|f32] [SHAPE]...

SHAPE is height x width x in-channels x out-channels x window x stride (output height and width), such as
28x28x40x240x1x1; `dw` in place of out-channels makes it depthwise. Without shapes: EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from pyruntime import _core

testing = _core.testing

EFFICIENTNET_LITE0 = """
112x112x3x32x3x2 112x112x32xdwx3x1 112x112x32x16x1x1 112x112x16x96x1x1 56x56x96xdwx3x2 56x56x96x24x1x1
56x56x24x144x1x1 56x56x144xdwx3x1 56x56x144x24x1x1 28x28x144xdwx5x2 28x28x144x40x1x1 28x28x40x240x1x1
28x28x240xdwx5x1 28x28x240x40x1x1 14x14x240xdwx3x2 14x14x240x80x1x1 14x14x80x480x1x1 14x14x480xdwx3x1
14x14x480x80x1x1 14x14x480xdwx5x1 14x14x480x112x1x1 14x14x112x672x1x1 14x14x672xdwx5x1 14x14x672x112x1x1
7x7x672xdwx5x2 7x7x672x192x1x1 7x7x192x1152x1x1 7x7x1152xdwx5x1 7x7x1152x192x1x1 7x7x1152xdwx3x1
7x7x1152x320x1x1 7x7x320x1280x1x1 1x1x1280x1000x1x1
"""


def layer(shape: str, epilogue: str, rng: np.random.Generator) -> tuple[Any, ...]:
    height, width, k, n_text, size, stride = shape.split("x")
    rows, cols, channels, window, step = int(height), int(width), int(k), int(size), int(stride)
    depthwise = n_text == "dw"
    n = channels if depthwise else int(n_text)
    wide = (cols - 1) * step + window
    x = rng.integers(0, 256, ((rows - 1) * step + window) * wide * channels + 320).astype(np.uint8)
    itemsize = 4 if epilogue == "f32" else 1
    y = np.zeros(rows * cols * n * itemsize + 128, np.uint8)
    y = y[-y.ctypes.data % 64 :]  # whole cache lines, as in a plan; so are the inputs
    spread = 128.0 * 74 * (window * window * (1 if depthwise else channels)) ** 0.5
    arguments: dict[str, Any] = {
        "x_offset": 64 + -x.ctypes.data % 64,
        "x_row_stride": step * wide * channels,
        "x_col_stride": step * channels,
        "rows": rows,
        "cols": cols,
        "y_row_stride": cols * n * itemsize,
        "y_col_stride": n * itemsize,
        "acc_init": np.zeros(n, np.int32),
        "multiplier": np.full(n, 50 / spread, np.float32),
        "offset": np.full(n, 100, np.float32),
        "f32_output": epilogue == "f32",
    }
    if epilogue == "residual":
        residual = rng.integers(0, 256, rows * cols * n + 64).astype(np.uint8)
        arguments.update(
            residual=residual, residual_row_stride=cols * n, residual_col_stride=n, b_multiplier=0.5
        )
    macs = rows * cols * n * window * window * (1 if depthwise else channels)
    if depthwise:
        arguments.update(tap_row_stride=wide * channels, tap_col_stride=channels)
        w = rng.integers(-128, 128, (n, window, window)).astype(np.int8)
        return testing.run_depthwise_int8, x, w, y, arguments, macs
    taps = [(i * wide + j) * channels for i in range(window) for j in range(window)]
    arguments["tap_offset"] = np.array(taps, np.int32)
    w = np.clip(rng.normal(0, 32, (n, window * window, channels)).round(), -127, 127).astype(np.int8)
    return testing.run_conv_int8, x, w, y, arguments, macs


def runs(weight_format: str, shape: str) -> bool:
    """Whether a row of the format runs the shape. The drawn weights do not fit the levels of int4."""
    if weight_format == "winograd":
        return shape.endswith("x3x1")
    return weight_format != "int4"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", default="avx512vnni", help="part of the row's name")
    parser.add_argument("--epilogue", default="u8", choices=["u8", "residual", "f32"])
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("shapes", nargs="*")
    options = parser.parse_args()
    rows = {
        testing.run_conv_int8: [row for row in testing.conv_int8_kernels() if row["usable"]],
        testing.run_depthwise_int8: [row for row in testing.depthwise_int8_kernels() if row["usable"]],
    }
    rng = np.random.default_rng(0)
    total = {"conv": 0.0, "depthwise": 0.0}
    for shape in options.shapes or EFFICIENTNET_LITE0.split():
        run, x, w, y, arguments, macs = layer(shape, options.epilogue, rng)
        for row in rows[run]:
            name = row["name"]
            if options.row not in name or not runs(row.get("format", ""), shape):
                continue
            inner = max(1, int(1e7 / macs))
            seconds = run(name, x, w, y, arguments, options.repeat, inner)
            if seconds is None:
                continue
            print(f"{shape:24s} {name:44s} {seconds * 1e6:9.1f} us {macs / seconds * 1e-9:8.1f} GMAC/s")
            total[name.split("_int8")[0]] += seconds
            if run is testing.run_depthwise_int8:
                break
    print("total ms: " + ", ".join(f"{kind} {seconds * 1e3:.3f}" for kind, seconds in total.items()))


if __name__ == "__main__":
    main()
