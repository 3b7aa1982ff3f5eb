"""What every grid must do, for every scheme."""

import itertools

import numpy as np
import pytest

from pyruntime.errors import OptionError
from pyruntime.quantize.schemes import IntegerGrid, parse_scheme
from pyruntime.spec import split

INTEGER = [
    "int8",
    "int8,per=tensor",
    *(f"int{bits}" for bits in range(2, 8)),
    *(f"int{bits},symmetric=no" for bits in range(2, 8)),
    "int4,per=tensor,symmetric=no",
    *(f"int{bits},group=8" for bits in range(2, 8)),
    "pow2",
    "pow2,per=tensor",
    "codebook=16",
    "codebook=16,per=tensor",
    "codebook=5,init=linear",
    "codebook=5,init=density",
    "codebook=5,init=random",
    "hashed=0.5",
    "hashed=0.1,per=tensor",
]
FLOAT = ["fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "fp:2.1", "fp:3.2", "fp:8.0"]
ALL = INTEGER + FLOAT


def scheme(text):
    head, options = split(text, "--quantize")
    return parse_scheme(head, options, f"--quantize '{text}'")


def weights(seed=0, density=1.0, shape=(12, 9, 7)):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=shape) * rng.uniform(0.1, 2, size=(shape[0], 1, 1))
    array[rng.random(shape) >= density] = 0
    return array.astype(np.float32)


@pytest.mark.parametrize("text", ALL)
def test_rounding_is_idempotent_and_works_column_by_column(text):
    weight = weights()
    matrix = weight.reshape(12, -1)
    grid = scheme(text).fit(weight)
    rounded = grid.round(matrix)
    assert rounded.dtype == np.float32 and rounded.shape == matrix.shape
    np.testing.assert_array_equal(grid.round(rounded), rounded)
    columns = [grid.round(matrix[:, [k]], np.array([k])) for k in range(matrix.shape[1])]
    np.testing.assert_array_equal(np.concatenate(columns, axis=1), rounded)
    np.testing.assert_array_equal(grid.round(matrix[:, 5:20], slice(5, 20)), rounded[:, 5:20])


@pytest.mark.parametrize("text", ALL)
def test_zeros_stay_zero(text):
    weight = weights(1, density=0.4)
    rounded = scheme(text).fit(weight).round(weight.reshape(12, -1))
    assert (rounded[weight.reshape(12, -1) == 0] == 0).all()
    assert np.count_nonzero(rounded) > 0


@pytest.mark.parametrize("text", INTEGER)
def test_codes_times_scale_are_the_points_and_fit_eight_bits(text):
    weight = weights(2)
    grid = scheme(text).fit(weight)
    assert isinstance(grid, IntegerGrid)
    codes = grid.codes(weight.reshape(12, -1))
    assert codes.dtype == np.int8 and codes.min() >= -127
    assert grid.scales.dtype == np.float32 and grid.scales.shape == (12,)
    assert np.isfinite(grid.scales).all() and (grid.scales > 0).all()
    np.testing.assert_array_equal(
        grid.round(weight.reshape(12, -1)), codes.astype(np.float32) * grid.scales[:, None]
    )


@pytest.mark.parametrize("text", ALL)
def test_dead_tiny_and_huge_channels(text):
    weight = weights(3)
    weight[0], weight[1], weight[2] = 0, 1e-42, weight[2] * np.float32(1e30)
    for array in (weight, np.zeros_like(weight)):
        rounded = scheme(text).fit(array).round(array.reshape(12, -1))
        assert np.isfinite(rounded).all()
        assert (rounded[0] == 0).all()


@pytest.mark.parametrize("text", INTEGER)
def test_scales_pass_through_adjust(text):
    seen = []

    def adjust(scales):
        seen.append(scales)
        return (scales * np.float32(1.25)).astype(np.float32)

    grid = scheme(text).fit(weights(4), None, adjust)
    assert len(seen) == 1
    wanted = seen[0] * np.float32(1.25)
    if "pow2" in text:
        wanted = 2.0 ** np.ceil(np.log2(wanted))
    np.testing.assert_array_equal(grid.scales, wanted)


@pytest.mark.parametrize("text", [t for t in ALL if "density" not in t and "random" not in t])
def test_importance_moves_the_error_to_where_it_counts_less(text):
    weight = weights(5, shape=(12, 1, 64))
    importance = np.where(np.arange(64) % 2, 1.0, 1e-4)
    made = scheme(text)
    errors = [
        (np.square(made.fit(weight, h).round(weight[:, 0]) - weight[:, 0]) * importance).sum()
        for h in (None, importance)
    ]
    assert errors[1] <= errors[0]
    assert np.isfinite(made.fit(weight, np.zeros(64)).round(weight[:, 0])).all()


def test_more_bits_are_closer():
    weight = weights(6, shape=(16, 1, 256))
    for suffix in ("", ",symmetric=no", ",group=16"):
        errors = []
        for bits in range(2, 8):
            rounded = scheme(f"int{bits}{suffix}").fit(weight).round(weight[:, 0])
            errors.append(np.square(rounded - weight[:, 0]).sum())
        assert all(next_ < last / 2 for last, next_ in itertools.pairwise(errors))


def test_clipping_pays_below_eight_bits():
    weight = weights(7, shape=(16, 1, 256))
    clipped, full = (
        np.square(scheme(text).fit(weight).round(weight[:, 0]) - weight[:, 0]).sum()
        for text in ("int3", "int3,clip=none")
    )
    assert clipped < 0.7 * full


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("int9", "scheme 'int9' is unknown; expected one of: int2..int8"),
        ("int4=3", "takes no value"),
        ("int4,group=1", "whole number from 2"),
        ("int4,group=x", "whole number"),
        ("int8,group=32", "needs 2 to 7 bits"),
        ("int8,symmetric=no", "needs 2 to 7 bits"),
        ("int4,group=32,per=tensor", "option 'per' is unknown here"),
        ("int4,per=row", "expected one of: channel, tensor"),
        ("int4,per=tensor,per=tensor", "given twice"),
        ("codebook", "whole number from 2"),
        ("codebook=1", "whole number from 2"),
        ("codebook=16,init=magic", "expected one of: optimal, linear"),
        ("hashed", "not a number"),
        ("hashed=0", "above 0"),
        ("hashed=1.5", "out of range"),
        ("fp:9.1", "1..8 exponent bits"),
        ("fp:5.11", "3 to 16 bits"),
        ("fp:x", "no float format"),
        ("fp16,per=channel", "option 'per' is unknown"),
    ],
)
def test_words_that_make_no_sense(text, found):
    with pytest.raises(OptionError, match=found) as caught:
        scheme(text)
    assert "\n" not in str(caught.value) and text in str(caught.value)
