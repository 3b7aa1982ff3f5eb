import numpy as np

from pyruntime.prune.criteria import CRITERIA


def test_magnitude_neither_overflows_nor_loses_small_weights():
    scores = CRITERIA["magnitude"](np.array([[[3e38, -1e-30, 0.0]]], np.float32), "w")
    assert np.isfinite(scores).all()
    assert scores[0, 0, 1] > 0 == scores[0, 0, 2]


def test_random_repeats_and_spares_no_zero():
    weight = np.ones((4, 1, 4), np.float32)
    weight[0] = 0
    first = CRITERIA["random"](weight, "w")
    np.testing.assert_array_equal(first, CRITERIA["random"](weight, "w"))
    assert (first[0] == 0).all()
    assert (first[1:] > 0).all()
    assert not np.array_equal(first, CRITERIA["random"](weight, "v"))
