"""Every depthwise_int8 row equals the reference bit for bit, and the reference equals NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyruntime import _core

from .conv_cases import EPILOGUES, SLACK, Epilogue, output, padded, requantize_numpy

testing = _core.testing
ROWS = testing.depthwise_int8_kernels()


def row_parameters() -> list[Any]:
    parameters = []
    for row in ROWS:
        marks = [] if row["usable"] else [pytest.mark.skip(reason=f"this CPU has no {row['isa']}")]
        parameters.append(pytest.param(row["name"], id=row["name"], marks=marks))
    return parameters


class Problem:
    def __init__(
        self,
        rng: np.random.Generator,
        rows: int,
        cols: int,
        channels: int,
        window: tuple[int, int] = (3, 3),
        stride: int = 1,
        dilation: int = 1,
        extreme: bool = False,
        epilogue: str = "u8",
    ) -> None:
        self.rows, self.cols, self.channels, self.stride, self.dilation = (
            rows,
            cols,
            channels,
            stride,
            dilation,
        )
        kh, kw = window
        height = (rows - 1) * stride + (kh - 1) * dilation + 1
        width = (cols - 1) * stride + (kw - 1) * dilation + 1
        if extreme:
            self.pixels = np.full((height, width, channels), 255, np.uint8)
            sign = np.arange(channels)[:, None, None] % 2 == 0
            self.w = np.where(sign, np.full((channels, kh, kw), 127), -128).astype(np.int8)
        else:
            self.pixels = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
            self.w = rng.integers(-128, 128, (channels, kh, kw)).astype(np.int8)
        spread = 255.0 * 127 * kh * kw if extreme else 128.0 * 74 * (kh * kw) ** 0.5
        self.arguments: dict[str, Any] = {
            "x_offset": SLACK,
            "x_row_stride": stride * width * channels,
            "x_col_stride": stride * channels,
            "tap_row_stride": dilation * width * channels,
            "tap_col_stride": dilation * channels,
            "rows": rows,
            "cols": cols,
            **Epilogue(epilogue).arguments(rng, channels, spread, rows, cols),
        }
        self.f32 = epilogue == "f32"

    def run(self, name: str, y_extra: int = 3, **overrides: Any) -> np.ndarray | None:
        """The whole output buffer, guards included; None if the row does not support the window."""
        itemsize = 4 if self.f32 else 1
        pitch = self.channels + y_extra
        y = output(self.rows, self.cols, pitch, itemsize)
        strides = {
            "y_offset": SLACK,
            "y_row_stride": self.cols * pitch * itemsize,
            "y_col_stride": pitch * itemsize,
        }
        arguments = {**self.arguments, **strides, **overrides}
        done = testing.run_depthwise_int8(name, padded(self.pixels), self.w, y, arguments)
        return None if done is None else y

    def expected_acc(self) -> np.ndarray:
        acc = np.zeros((self.rows, self.cols, self.channels), np.int64) + self.arguments["acc_init"]
        kh, kw = self.w.shape[1:]
        for i in range(kh):
            for j in range(kw):
                top, left = i * self.dilation, j * self.dilation
                rows = slice(top, top + (self.rows - 1) * self.stride + 1, self.stride)
                cols = slice(left, left + (self.cols - 1) * self.stride + 1, self.stride)
                acc += self.pixels[rows, cols].astype(np.int64) * self.w[:, i, j]
        return acc


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("stride,dilation", [(1, 1), (2, 1), (1, 3)])
def test_reference_equals_numpy(epilogue: str, stride: int, dilation: int) -> None:
    rng = np.random.default_rng(11)
    p = Problem(rng, 4, 5, 33, (3, 5), stride, dilation, epilogue=epilogue)
    y = p.run("reference", y_extra=0)
    assert y is not None
    body = y[SLACK:-SLACK]
    got = (body.view(np.float32) if p.f32 else body).reshape(4, 5, 33)
    residual = None
    if "residual" in p.arguments:
        residual = p.arguments["residual"][SLACK:-SLACK].reshape(4, 5, 38)[..., :33]
    assert np.array_equal(got, requantize_numpy(p.expected_acc(), p.arguments, residual))
    assert len(np.unique(got)) > 50  # the problem exercises the range


@pytest.mark.parametrize("row", row_parameters())
class TestRow:
    @staticmethod
    def check(row: str, p: Problem, **overrides: Any) -> None:
        got, want = p.run(row, **overrides), p.run("reference", **overrides)
        if got is not None:
            assert np.array_equal(got, want), (p.rows, p.cols, p.w.shape, p.stride, p.dilation)

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("size", [3, 5])
    def test_channels(self, row: str, size: int, stride: int) -> None:
        rng = np.random.default_rng(1)
        for channels in range(1, 131):
            cols = (1, 2, 3, 7, 14)[channels % 5]
            p = Problem(rng, 2, cols, channels, (size, size), stride, epilogue=EPILOGUES[channels % 4])
            self.check(row, p)

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("size", [3, 5])
    def test_columns(self, row: str, size: int, stride: int) -> None:
        rng = np.random.default_rng(2)
        for cols in range(1, 34):
            for channels in (16, 32, 64, 80):
                self.check(row, Problem(rng, 1 + cols % 3, cols, channels, (size, size), stride))

    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_windows(self, row: str, epilogue: str) -> None:
        rng = np.random.default_rng(3)
        for kh in range(1, 10):
            for kw in (1, 2, 3, 5, 7):
                stride, dilation = 1 + kh % 3, 1 + kw % 2
                p = Problem(
                    rng, 2, 5, (12, 30, 50, 144)[kh % 4], (kh, kw), stride, dilation, epilogue=epilogue
                )
                self.check(row, p)

    def test_supports_usual_windows(self, row: str) -> None:
        rng = np.random.default_rng(4)
        assert any(Problem(rng, 1, 2, 16, (size, size)).run(row) is not None for size in (3, 5))

    def test_extreme_values(self, row: str) -> None:
        rng = np.random.default_rng(5)
        for size in (3, 5, 7):
            for epilogue in ("u8", "f32"):
                self.check(row, Problem(rng, 2, 5, 70, (size, size), extreme=True, epilogue=epilogue))

    def test_channel_split(self, row: str) -> None:
        """What lies outside the channels of a task keeps its value."""
        rng = np.random.default_rng(6)
        p = Problem(rng, 2, 9, 150, epilogue="residual")
        for begin in range(0, 150, 64):
            self.check(row, p, channel_begin=begin, channel_end=min(150, begin + 64))

    def test_huge_accumulators(self, row: str) -> None:
        """Scaled values far beyond int32 clamp as the reference says."""
        rng = np.random.default_rng(10)
        p = Problem(rng, 1, 15, 40)
        p.arguments["multiplier"] = np.where(np.arange(40) % 2 == 0, 1e30, -1e30).astype(np.float32)
        self.check(row, p)
        p.arguments.update(lo=9.0, hi=77.0)
        self.check(row, p)


def test_every_window_has_a_row() -> None:
    rng = np.random.default_rng(7)
    for isa in {row["isa"] for row in ROWS if row["usable"]}:
        names = [row["name"] for row in ROWS if row["isa"] in (isa, "scalar")]
        for kh, kw in ((1, 1), (2, 9), (11, 3)):
            p = Problem(rng, 1, 3, 20, (kh, kw))
            assert any(p.run(name) is not None for name in names)
