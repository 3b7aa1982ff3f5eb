import numpy as np
import pytest

from pyruntime.minifloat import FORMATS, Format, find_format


def finite(form):
    codes = np.arange(form.largest_code + 1, dtype=np.uint16)
    return codes, form.decode(codes)


@pytest.mark.parametrize("name", [*FORMATS, "fp:2.1", "fp:1.1", "fp:3.0", "fp:8.0", "fp:4.7"])
def test_round_trip_of_every_code(name):
    form = find_format(name)
    codes, values = finite(form)
    assert (np.diff(values) > 0).all() and values[0] == 0
    np.testing.assert_array_equal(form.encode(values), codes)
    signed = codes[1:] | np.uint16(1 << (form.bits - 1))
    np.testing.assert_array_equal(form.decode(signed), -values[1:])
    np.testing.assert_array_equal(form.encode(-values[1:]), signed)


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "fp:2.1", "fp:3.2"])
def test_nearest_ties_to_even_and_saturation(name):
    form = find_format(name)
    codes, values = finite(form)
    middles = (values[1:] + values[:-1]) / 2
    even = np.where(codes[:-1] % 2 == 0, values[:-1], values[1:])
    np.testing.assert_array_equal(form.round(middles), even)
    np.testing.assert_array_equal(form.round(np.nextafter(middles, 0)), values[:-1])
    np.testing.assert_array_equal(form.round(np.nextafter(middles, np.inf)), values[1:])
    assert form.round(np.array([1e30, -1e30])).tolist() == [form.largest, -form.largest]


def test_known_largest_and_smallest_numbers():
    assert find_format("fp8_e4m3").largest == 448
    assert find_format("fp8_e5m2").largest == 57344
    assert find_format("fp16").largest == 65504
    assert find_format("fp8_e4m3").decode(np.array([1]))[0] == 2.0**-9
    assert find_format("fp8_e5m2").decode(np.array([1]))[0] == 2.0**-16
    assert finite(Format(2, 1))[1].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_half_precision_is_numpys():
    x = np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.random.default_rng(1).uniform(-9, 5, 10_000)
    x = np.clip(x, -65504, 65504)
    np.testing.assert_array_equal(find_format("fp16").round(x), x.astype(np.float16).astype(np.float64))


def test_brain_float_is_float32_rounded_to_16_bits():
    x = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(find_format("bf16").round(x), rounded)


@pytest.mark.parametrize("name", ["fp", "fp:", "fp:0.3", "fp:9.2", "fp:1.0", "fp:6.10", "fp32", "fp:4.3.2"])
def test_no_format(name):
    with pytest.raises(ValueError, match=r"fp"):
        find_format(name)
