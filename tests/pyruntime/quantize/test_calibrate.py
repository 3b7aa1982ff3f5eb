import warnings

import numpy as np
import pytest
from toolmodels import make_run, residual_net

from pyruntime.errors import DataError
from pyruntime.quantize import QuantizeSpec, Range, calibrate, make_plan

SPEC = QuantizeSpec(calibrate="minmax")


@pytest.fixture
def model():
    return residual_net(np.random.default_rng(0))


def data(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)


def test_ranges_are_those_of_the_whole_data(model):
    x = data(150)
    names = make_plan(model).names
    ranges = calibrate(model, {"x": x}, SPEC, names, make_run=make_run)
    assert list(ranges) == names == ["x", "r1", "c2", "r2", "r3", "mean"]
    assert ranges["x"] == Range(float(x.min()), float(x.max()))
    assert ranges["r1"].low == 0
    assert ranges["r1"].high <= 6
    reversed_ranges = calibrate(model, {"x": x[::-1].copy()}, SPEC, names, make_run=make_run)
    assert ranges == reversed_ranges


def test_progress_counts_samples(model):
    seen = []
    calibrate(model, {"x": data(130)}, SPEC, ["x", "r1"], make_run=make_run, progress=seen.append)
    assert seen == [64, 128, 130]


def test_one_bad_sample_does_not_poison_the_scale(model):
    x = data(20)
    good = calibrate(model, {"x": x}, SPEC, ["x"], make_run=make_run)
    dirty = x.copy()
    dirty[3, 0, 0, 0], dirty[4, 0, 0, 0] = np.nan, np.inf
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = calibrate(model, {"x": dirty}, SPEC, ["x", "r1"], make_run=make_run)
    assert found["x"].high <= good["x"].high and found["x"].low >= good["x"].low
    assert sorted({str(w.message).split("'")[1] for w in caught}) == ["r1", "x"]


def test_nothing_but_nan_names_the_tensor(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="'x': no finite value"):
            calibrate(
                model, {"x": np.full((2, 3, 16, 16), np.nan, np.float32)}, SPEC, ["x"], make_run=make_run
            )
