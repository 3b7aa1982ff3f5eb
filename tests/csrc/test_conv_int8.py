"""Every conv_int8 row equals the reference bit for bit, and the reference equals NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pyruntime import _core

from .conv_cases import EPILOGUES, SLACK, Epilogue, output, padded, requantize_numpy

testing = _core.testing
ROWS = testing.conv_int8_kernels()
ANY_WINDOW = ("dense", "int4", "block4", "bitmask")


def row_parameters(weight_formats: tuple[str, ...]) -> list[Any]:
    marks = {}
    for row in ROWS:
        needed = row["name"].split("__")[1]  # its isa, or avx512vbmi, a part of avx512vnni that not all have
        marks[row["name"]] = [] if row["usable"] else [pytest.mark.skip(reason=f"this CPU has no {needed}")]
    return [
        pytest.param(row, id=row["name"], marks=marks[row["name"]])
        for row in ROWS
        if row["format"] in weight_formats
    ]


def grouped_int4(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`w` in s8 `[n, taps, k]` as levels of 4 bits, 32 channels of a tap times a multiplier of 1 to 16."""
    multipliers = rng.integers(1, 17, (*w.shape[:2], -(-w.shape[2] // 32))).repeat(32, axis=2)
    return ((w >> 4) * multipliers[..., : w.shape[2]]).astype(np.int8)


class Problem:
    """A convolution of rows x cols output pixels with a size x size window over k channels."""

    def __init__(
        self,
        rng: np.random.Generator,
        rows: int,
        cols: int,
        n: int,
        k: int,
        size: int = 1,
        stride: int = 1,
        extra: int = 0,
        extreme: bool = False,
        density: float = 1.0,
        epilogue: str = "u8",
    ) -> None:
        self.rows, self.cols, self.n, self.k, self.size, self.stride = rows, cols, n, k, size, stride
        height, width = (rows - 1) * stride + size, (cols - 1) * stride + size
        pitch = k + extra
        if extreme:
            self.pixels = np.full((height, width, pitch), 255, np.uint8)
            self.w = np.where(np.arange(n) % 2 == 0, 127, -128).astype(np.int8)[:, None, None]
            self.w = np.ascontiguousarray(np.broadcast_to(self.w, (n, size * size, k)))
        else:
            self.pixels = rng.integers(0, 256, (height, width, pitch)).astype(np.uint8)
            self.w = rng.integers(-128, 128, (n, size * size, k)).astype(np.int8)
        if density < 1.0:
            self.w = self.w * (rng.random(self.w.shape) < density).astype(np.int8)
        spread = 255.0 * 127 * k * size * size if extreme else 128.0 * 74 * (k * size * size) ** 0.5
        taps = [(i * width + j) * pitch for i in range(size) for j in range(size)]
        self.arguments: dict[str, Any] = {
            "x_offset": SLACK,
            "x_row_stride": stride * width * pitch,
            "x_col_stride": stride * pitch,
            "tap_offset": np.array(taps, np.int32),
            "rows": rows,
            "cols": cols,
            **Epilogue(epilogue).arguments(rng, n, spread, rows, cols),
        }
        self.f32 = epilogue == "f32"

    def count_from(self, tap_row: int, tap_col: int) -> None:
        """Gives a pixel the address of a tap: those before it lie at negative offsets, as in plans."""
        offset = self.arguments["tap_offset"][tap_row * self.size + tap_col]
        self.arguments["tap_offset"] = self.arguments["tap_offset"] - offset
        self.arguments["x_offset"] += int(offset)

    def fit(self, weight_format: str) -> None:
        """Turns the weights into ones that a row of this format can hold."""
        if weight_format == "int4" and not testing.fits_int4(self.w):
            self.w = grouped_int4(self.w, np.random.default_rng(self.n))

    def run(self, name: str, y_extra: int = 3, y_halo: int = 0, **overrides: Any) -> np.ndarray:
        """The whole output buffer, guards and `y_halo` pixels behind every row included."""
        itemsize = 4 if self.f32 else 1
        pitch = self.n + y_extra
        y = output(self.rows, self.cols + y_halo, pitch, itemsize)
        strides = {
            "y_offset": SLACK,
            "y_row_stride": (self.cols + y_halo) * pitch * itemsize,
            "y_col_stride": pitch * itemsize,
        }
        testing.run_conv_int8(
            name, padded(self.pixels), self.w, y, {**self.arguments, **strides, **overrides}
        )
        return y

    def expected_acc(self) -> np.ndarray:
        """[rows, cols, n] in int64."""
        acc = np.zeros((self.rows, self.cols, self.n), np.int64) + self.arguments["acc_init"]
        for tap in range(self.size * self.size):
            i, j = divmod(tap, self.size)
            rows = slice(i, i + (self.rows - 1) * self.stride + 1, self.stride)
            cols = slice(j, j + (self.cols - 1) * self.stride + 1, self.stride)
            acc += self.pixels[rows, cols, : self.k].astype(np.int64) @ self.w[:, tap].T.astype(np.int64)
        return acc


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("size,stride", [(1, 1), (3, 2)])
def test_reference_equals_numpy(epilogue: str, size: int, stride: int) -> None:
    rng = np.random.default_rng(7)
    p = Problem(rng, 4, 5, 33, 19, size=size, stride=stride, epilogue=epilogue)
    y = p.run("reference", y_extra=0)[SLACK:-SLACK]
    got = (y.view(np.float32) if p.f32 else y).reshape(4, 5, 33)
    residual = None
    if "residual" in p.arguments:
        residual = p.arguments["residual"][SLACK:-SLACK].reshape(4, 5, 38)[..., :33]
    want = requantize_numpy(p.expected_acc(), p.arguments, residual)
    assert np.array_equal(got, want)
    assert len(np.unique(got)) > 50  # the problem exercises the range


def test_saturating_pair() -> None:
    """x = 255, w = 127, four channels: 129540, where a 16-bit pair sum would give 65534."""
    rng = np.random.default_rng(0)
    p = Problem(rng, 1, 1, 1, 4, extreme=True, epilogue="f32")
    p.arguments.update(
        acc_init=np.zeros(1, np.int32), multiplier=np.ones(1, np.float32), offset=np.zeros(1, np.float32)
    )
    for row in ROWS:
        if row["usable"] and row["format"] in ANY_WINDOW:
            y = p.run(row["name"], y_extra=0)[SLACK : SLACK + 4].view(np.float32)
            assert y[0] == 129540.0, row["name"]


@pytest.mark.skipif("avx2" not in _core.available_isas(), reason="this CPU has no avx2")
def test_cost_of_the_forms_of_groups() -> None:
    """Drawn weights of 7 bits pair up, of 8 they need 16 bits: sparse rows pay for the latter alone."""
    drawn = np.random.default_rng(0).normal(size=(64, 9, 64))

    def cost(row: str, bits: int) -> float:
        scale = np.abs(drawn).max(axis=(1, 2), keepdims=True) / (2 ** (bits - 1) - 1)
        w = np.rint(drawn / scale).astype(np.int8)
        return float(testing.cost_conv_int8(f"conv_int8_u8s8s32_{row}__avx2", w, 1.0, (1, 56, 56)))

    assert cost("5x16x4", 7) < 0.85 * cost("block4_64x1", 7)
    assert cost("5x16x4", 7) < 0.8 * cost("5x16x4", 8)


@pytest.mark.parametrize("row", row_parameters(ANY_WINDOW))
class TestRow:
    @staticmethod
    def check(row: dict[str, Any], p: Problem, **overrides: Any) -> None:
        p.fit(row["format"])
        got, want = p.run(row["name"], **overrides), p.run("reference", **overrides)
        assert np.array_equal(got, want), (p.rows, p.cols, p.n, p.k, p.size, p.stride)

    def test_pixels(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(1)
        for cols in [*range(1, 34), 49, 56]:
            n = int(rng.integers(1, 131))
            k = int(rng.integers(1, 70))
            self.check(row, Problem(rng, 1, cols, n, k))

    def test_output_channels(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(2)
        for n in range(1, 131):
            cols = (1, 2, 4, 7, 9, 14, 17)[n % 7]
            self.check(row, Problem(rng, 1, cols, n, 12, epilogue=EPILOGUES[n % 5]))

    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_few_output_channels(self, row: dict[str, Any], epilogue: str) -> None:
        """Panels of 8 channels: tiles of every size, results with and without room between the pixels."""
        rng = np.random.default_rng(15)
        for n in (1, 5, 8, 9, 16, 19, 24, 25, 40):
            for cols in range(1, 18):
                k = (3, 8, 12, 16, 20, 40)[(n + cols) % 6]
                p = Problem(rng, 2, cols, n, k, size=1 + 2 * (cols % 2), extra=k % 3, epilogue=epilogue)
                self.check(row, p, y_extra=cols % 2)

    def test_input_channels(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(3)
        for k in range(1, 131):
            self.check(row, Problem(rng, 1, (1, 7, 14, 18)[k % 4], 40, k, extra=k % 3))

    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_windows_and_strides(self, row: dict[str, Any], epilogue: str) -> None:
        rng = np.random.default_rng(4)
        for size in (1, 3, 5):
            for stride in (1, 2):
                for cols, k in ((7, 3), (14, 16), (5, 33), (31, 4)):
                    p = Problem(rng, 3, cols, 37, k, size=size, stride=stride, extra=2, epilogue=epilogue)
                    self.check(row, p)

    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_output_with_halo(self, row: dict[str, Any], epilogue: str) -> None:
        """Rows of pixels follow one another in the input, not in the output; the halo keeps its value."""
        rng = np.random.default_rng(12)
        for rows, cols, size, k in ((7, 7, 1, 70), (7, 7, 3, 20), (5, 3, 3, 12), (3, 13, 1, 9), (9, 1, 1, 8)):
            p = Problem(rng, rows, cols, 50, k, size=size, epilogue=epilogue)
            self.check(row, p, y_halo=2)

    def test_many_pixels(self, row: dict[str, Any]) -> None:
        """Strips of up to eight vectors of 16 pixels, and several strips."""
        rng = np.random.default_rng(13)
        for i, cols in enumerate((65, 80, 97, 112, 120, 128, 129, 200, 300)):
            p = Problem(rng, 1, cols, 21, 24, density=0.3, epilogue=EPILOGUES[i % 5])
            self.check(row, p)
        self.check(row, Problem(rng, 3, 70, 18, 600, density=0.05, epilogue="residual"))

    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_sparse_windows(self, row: dict[str, Any], epilogue: str) -> None:
        """Pixels far apart in the lanes of a vector: parts of every shape, beside and below one another."""
        rng = np.random.default_rng(17)
        shapes = [(1, 40), (7, 7), (14, 14), (9, 28), (28, 9), (20, 3), (2, 115), (4, 57), (33, 1)]
        for i, (rows, cols) in enumerate(shapes):
            stride = 1 + i % 2
            k = (4, 12, 20, 32)[i % 4]
            extra = 4 * (i % 3)
            p = Problem(rng, rows, cols, 67, k, 3, stride, extra, density=0.2, epilogue=epilogue)
            self.check(row, p)
            p.count_from(1, 1)
            self.check(row, p)

    def test_sparse_windows_of_many_channels(self, row: dict[str, Any]) -> None:
        """Lists in chunks of input channels, sums that wait in memory."""
        rng = np.random.default_rng(18)
        for i, (k, n, stride) in enumerate(((148, 130, 1), (300, 70, 1), (304, 40, 2), (600, 20, 1))):
            p = Problem(rng, 5, 9, n, k, 3, stride, density=0.1, epilogue=EPILOGUES[i])
            self.check(row, p)
            if n > 128:
                self.check(row, p, n_end=128)
                self.check(row, p, n_begin=128)

    def test_distant_weights(self, row: dict[str, Any]) -> None:
        """Nonzero weights more than 4 KB of inputs apart."""
        rng = np.random.default_rng(14)
        p = Problem(rng, 1, 2, 20, 13000)
        keep = np.zeros(13000, bool)
        keep[[5, 4098, 4200, 12999]] = True
        p.w = p.w * keep
        self.check(row, p)

    def test_extreme_values(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(5)
        for k in (1, 4, 64, 130):
            for epilogue in ("u8", "f32"):
                self.check(row, Problem(rng, 2, 9, 35, k, size=3, extreme=True, epilogue=epilogue))

    def test_sparse_weights(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(6)
        for density in (0.0, 0.05, 0.3):
            self.check(row, Problem(rng, 1, 18, 70, 66, density=density))
            self.check(row, Problem(rng, 2, 7, 33, 20, size=3, density=density, epilogue="residual"))

    def test_wide_layers(self, row: dict[str, Any]) -> None:
        """Weights beyond the caches take another loop order, 4096-byte panels another stride."""
        rng = np.random.default_rng(8)
        for cols in (1, 3, 49):
            self.check(row, Problem(rng, 1, cols, 1030, 1024))

    def test_channel_split(self, row: dict[str, Any]) -> None:
        """Tasks own whole channel blocks: what lies outside keeps its value, the parts make up the whole."""
        rng = np.random.default_rng(9)
        p = Problem(rng, 2, 15, 150, 24, epilogue="residual")
        block = row["n_block"]
        for begin in range(0, 150, 64):
            bounds = {"n_begin": begin // block * block, "n_end": min(150, (begin + 64) // block * block)}
            self.check(row, p, **bounds)

    def test_split_of_few_channels(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(16)
        block = row["n_block"]
        for n, k in ((24, 16), (24, 12), (20, 40), (40, 24)):
            p = Problem(rng, 2, 11, n, k, size=3, epilogue="residual")
            for begin, end in ((0, 16), (16, n)):
                if begin % block == 0 and (end % block == 0 or end == n):
                    self.check(row, p, n_begin=begin, n_end=end)

    def test_narrow_channel_split(self, row: dict[str, Any]) -> None:
        """Few pixels take up to eight panels at once; none of them may touch channels behind n_end."""
        rng = np.random.default_rng(11)
        block = row["n_block"]
        for cols in (1, 2, 3):
            p = Problem(rng, 1, cols, 400, 32)
            for panels in range(1, 9):
                begin = 16 // block * block if block <= 16 else 0
                end = min(400, (begin + 16 * panels + block - 1) // block * block)
                self.check(row, p, n_begin=begin, n_end=end)

    def test_huge_accumulators(self, row: dict[str, Any]) -> None:
        """Scaled values far beyond int32, and NaN from no valid program, clamp as the reference says."""
        rng = np.random.default_rng(10)
        p = Problem(rng, 1, 15, 40, 8)
        p.arguments["multiplier"] = np.where(np.arange(40) % 2 == 0, 1e30, -1e30).astype(np.float32)
        self.check(row, p)
        p.arguments.update(lo=9.0, hi=77.0)
        self.check(row, p)


@pytest.mark.parametrize("row", row_parameters(("winograd",)))
class TestWinograd:
    def test_pixels(self, row: dict[str, Any]) -> None:
        """Tiles cut at either edge, blocks of tiles that are full and that are not."""
        rng = np.random.default_rng(20)
        sizes = ((1, 1), (1, 7), (2, 3), (3, 2), (4, 4), (5, 8), (6, 13), (7, 7), (14, 14), (30, 31))
        for rows, cols in sizes:
            for k in (1, 16, 35):
                TestRow.check(row, Problem(rng, rows, cols, 20, k, size=3, extra=k % 2, epilogue="f32"))

    def test_channels(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(21)
        for n in range(1, 70):
            p = Problem(rng, 5, 6, n, int(rng.integers(1, 50)), size=3, epilogue=EPILOGUES[n % 5])
            TestRow.check(row, p, y_halo=n % 3)

    def test_blocks_of_every_size(self, row: dict[str, Any]) -> None:
        """Many input channels leave room for fewer tiles at a time."""
        rng = np.random.default_rng(22)
        for k in (130, 320, 620, 2100, 4000):
            p = Problem(rng, 9, 18, 3, k, size=3, epilogue="f32")
            p.w >>= 4
            TestRow.check(row, p)

    def test_channel_split(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(23)
        p = Problem(rng, 7, 10, 100, 24, size=3, epilogue="residual")
        for begin, end in ((0, 16), (16, 64), (64, 100), (96, 100)):
            TestRow.check(row, p, n_begin=begin, n_end=end)

    @pytest.mark.parametrize("epilogue", ["u8", "f32"])
    def test_largest_sums(self, row: dict[str, Any], epilogue: str) -> None:
        """The largest sums that the divisor 64 leaves exact: 1,026 weights of -128 and inputs of 255."""
        rng = np.random.default_rng(24)
        TestRow.check(row, Problem(rng, 6, 6, 18, 114, size=3, extreme=True, epilogue=epilogue))
        p = Problem(rng, 6, 6, 18, 115, size=3, extreme=True, epilogue=epilogue)
        with pytest.raises(_core.CoreError, match="window, or the weights"):
            p.run(row["name"])

    def test_largest_transforms(self, row: dict[str, Any]) -> None:
        """Inputs and weights that make each of the 36 numbers as large, or as small, as it can be."""
        b = [(4, 0, -5, 0, 1, 0), (0, 4, 4, -1, -1, 0), (0, -4, 4, 1, -1, 0)]
        b += [(0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)]
        g = [(6, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (1, -2, 4), (0, 0, 6)]
        rng = np.random.default_rng(25)
        for i, j, sign in itertools.product(range(6), range(6), (1, -1)):
            p = Problem(rng, 4, 4, 16, 32, size=3, epilogue="f32")
            p.pixels[:] = np.where(np.outer(b[i], b[j]) * sign > 0, 255, 0)[..., None]
            window = np.where(np.outer(g[i], g[j]) * sign > 0, 127, -128).reshape(1, 9, 1)
            p.w = np.ascontiguousarray(np.broadcast_to(window, p.w.shape).astype(np.int8))
            TestRow.check(row, p)

    def test_other_windows(self, row: dict[str, Any]) -> None:
        rng = np.random.default_rng(26)
        for size, stride in ((1, 1), (3, 2), (5, 1)):
            with pytest.raises(_core.CoreError, match="window, or the weights"):
                Problem(rng, 4, 4, 16, 16, size=size, stride=stride).run(row["name"])


@pytest.mark.parametrize("row", row_parameters(("int4",)))
class TestInt4:
    @pytest.mark.parametrize("levels", [(-8,), (7,), (-8, 7), (-8, -7)])
    @pytest.mark.parametrize("multiplier", [1, 3, 16])
    def test_largest_sums(self, row: dict[str, Any], levels: tuple[int, ...], multiplier: int) -> None:
        """Activations of 255: a block of 32 of level -8 reaches -32640 in each 16-bit sum."""
        rng = np.random.default_rng(12)
        for k in (32, 100):
            p = Problem(rng, 1, 2, 35, k, extreme=True, epilogue="f32")
            p.w = (np.resize(levels, (35, 1, k)) * multiplier).astype(np.int8)
            assert testing.fits_int4(p.w)
            TestRow.check(row, p)

    @pytest.mark.parametrize("multiplier", [2, 7, 18, 127])
    def test_multipliers(self, row: dict[str, Any], multiplier: int) -> None:
        rng = np.random.default_rng(13)
        p = Problem(rng, 1, 3, 50, 70)
        most = min(7, 127 // multiplier)
        p.w = (rng.integers(-most, most + 1, p.w.shape) * multiplier).astype(np.int8)
        TestRow.check(row, p)

    def test_weights_that_do_not_fit(self, row: dict[str, Any]) -> None:
        p = Problem(np.random.default_rng(14), 1, 1, 16, 32)
        with pytest.raises(_core.CoreError, match="do not fit 4 bits"):
            p.run(row["name"])


def test_fits_int4() -> None:
    """Against all multipliers tried in turn."""
    rng = np.random.default_rng(15)
    found = []
    for kind in range(600):
        k = int(rng.integers(1, 40))
        multiplier = int(rng.integers(1, 30))
        w = rng.integers(-9, 9, (1, 1, k)) * multiplier
        if kind % 3 == 0:
            w[0, 0, rng.integers(k)] += rng.integers(-1, 2)
        w = np.clip(w, -128, 127).astype(np.int8)
        wide = w.astype(np.int64)
        fits = all(
            any(
                not np.any(wide[..., part] % m) and np.all(np.abs(2 * wide[..., part] // m + 1) <= 15)
                for m in range(1, 129)
            )
            for part in (slice(0, 32), slice(32, None))
        )
        assert testing.fits_int4(w) == fits, w
        found.append(fits)
    assert 60 < sum(found) < 540
