"""Rows of kernels/pool against the reference, to the bit."""

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = [row["name"] for row in testing.float_rows("pool") if row["usable"]]
CHANNELS = [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000]
COUNTS = [1, 2, 3, 4, 5, 8, 9, 10, 25]
MODES = [testing.Mode(flush_denormals=flush) for flush in (False, True)]


def bits(array):
    return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))


def flushed(x):
    """x with its subnormals replaced by zeros of the same sign."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def floats(shape, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, shape).astype(np.float32)
    specials = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40], np.float32)
    chosen = rng.random(shape) < 0.2
    x[chosen] = rng.choice(specials, int(chosen.sum()))
    return x


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", COUNTS)
def test_max_pool(row, count):
    rng = np.random.default_rng(count)
    for channels in CHANNELS:
        x = rng.integers(0, 256, (count, channels), dtype=np.uint8)
        np.testing.assert_array_equal(testing.pool(row, "max", x), x.max(axis=0))
        f = floats((count, channels), channels)
        for mode, x in ((MODES[0], f), (MODES[1], flushed(f))):
            got = testing.pool(row, "max", f, mode=mode)
            np.testing.assert_array_equal(bits(got), bits(testing.pool("reference", "max", x)))
        # A NaN wins, as in NumPy.
        np.testing.assert_array_equal(testing.pool(row, "max", f), f.max(axis=0))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("count", COUNTS)
def test_average_f32(row, count):
    for channels in CHANNELS:
        f = floats((count, channels), channels)
        for mode in MODES:
            got = testing.pool(row, "average", f, divisor=float(count), mode=mode)
            expected = testing.pool("reference", "average", f, divisor=float(count), mode=mode)
            np.testing.assert_array_equal(bits(got), bits(expected))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("op", ["average", "global_average"])
@pytest.mark.parametrize("count", [*COUNTS, 49, 256, 257, 600])
def test_average_u8(row, op, count):
    rng = np.random.default_rng(count)
    for channels in CHANNELS:
        for x in (
            rng.integers(0, 256, (count, channels), dtype=np.uint8),
            np.full((count, channels), 255, np.uint8),
        ):
            for multiplier, zero_point_y in ((1 / count, 0.0), (0.37 / count, 114.0), (3.0 / count, 30.0)):
                options = {"zero_point_x": 13, "multiplier": multiplier, "zero_point_y": zero_point_y}
                got = testing.pool(row, op, x, **options)
                np.testing.assert_array_equal(got, testing.pool("reference", op, x, **options))


@pytest.mark.parametrize("row", ["reference", *ROWS])
def test_average_u8_rounds_half_to_even(row):
    x = np.array([[0, 1, 2, 3, 255]] * 1 + [[1, 2, 3, 4, 255]], np.uint8)
    got = testing.pool(row, "average", np.tile(x, (1, 20)), multiplier=0.5)
    np.testing.assert_array_equal(got, [0, 2, 2, 4, 255] * 20)


@pytest.mark.parametrize("row", ["reference", *ROWS])
@pytest.mark.parametrize("count", COUNTS)
def test_runs_of_pixels(row, count):
    """A run gives what its pixels give one by one."""
    rng = np.random.default_rng(count)
    for channels in (1, 15, 16, 17, 48, 64, 81, 129):
        for pixels in (0, 1, 2, 7):
            u = rng.integers(0, 256, (pixels, count, channels), dtype=np.uint8)
            f = floats((pixels, count, channels), channels)
            for x, op, options in (
                (u, "max", {}),
                (u, "average", {"zero_point_x": 13, "multiplier": 0.37 / count, "zero_point_y": 114.0}),
                (f, "max", {}),
                (f, "average", {"divisor": float(count)}),
            ):
                got = testing.pool(row, op, x, **options)
                assert got.shape == (pixels, channels)
                for p in range(pixels):
                    np.testing.assert_array_equal(
                        got[p].view(np.uint8), testing.pool(row, op, x[p], **options).view(np.uint8)
                    )
