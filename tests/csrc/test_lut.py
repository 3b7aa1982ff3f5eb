"""Rows of kernels/lut: every byte through random tables, all lengths, in place too."""

import numpy as np
import pytest

from pyruntime._core import testing

ROWS = [row["name"] for row in testing.float_rows("lut") if row["usable"]]
LENGTHS = [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000]


@pytest.mark.parametrize("row", ROWS)
def test_lut_equals_reference(row):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x = rng.integers(0, 256, n, dtype=np.uint8)
        table = rng.integers(0, 256, 256, dtype=np.uint8)
        np.testing.assert_array_equal(testing.lut(row, x, table), table[x])
        np.testing.assert_array_equal(testing.lut(row, x, table, testing.Mode(in_place=True)), table[x])
        np.testing.assert_array_equal(testing.lut("reference", x, table), table[x])


@pytest.mark.parametrize("row", ROWS)
def test_lut_finds_every_entry(row):
    x = np.tile(np.arange(256, dtype=np.uint8), 3)
    table = np.random.default_rng(1).permutation(256).astype(np.uint8)
    np.testing.assert_array_equal(testing.lut(row, x, table), table[x])
