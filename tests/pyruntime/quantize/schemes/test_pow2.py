import numpy as np

from pyruntime.quantize.schemes.pow2 import PowerOfTwo, round_up


def test_scales_are_powers_of_two():
    weight = np.random.default_rng(0).normal(size=(12, 3, 20)).astype(np.float32)
    for per in ("channel", "tensor"):
        mantissa, _ = np.frexp(PowerOfTwo(per).fit(weight).scales)
        assert (mantissa == 0.5).all()


def test_round_up():
    assert round_up(np.array([1.0, 1.1, 0.5, 0.5001, 3.0])).tolist() == [1, 2, 0.5, 1, 4]
