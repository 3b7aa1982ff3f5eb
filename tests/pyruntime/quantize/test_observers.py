import warnings

import numpy as np
import pytest

from pyruntime.errors import DataError
from pyruntime.quantize.observers import OBSERVERS
from pyruntime.quantize.observers.average import GROUP
from pyruntime.quantize.observers.base import BINS, Histogram
from pyruntime.quantize.observers.entropy import divergence
from pyruntime.quantize.observers.mse import squared_error
from pyruntime.quantize.ranges import Range, activation_params

ALL = pytest.mark.parametrize("name", OBSERVERS)


def observe(name, *batches):
    observer = OBSERVERS[name]("x")
    for batch in batches:
        observer.update(np.asarray(batch, np.float32))
    return observer.range()


# Not the average: which samples make a group is a matter of their order.
@pytest.mark.parametrize("name", [name for name in OBSERVERS if name != "average"])
def test_batches_and_one_array_agree(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000).astype(np.float32)
    whole = observe(name, x)
    parts = observe(name, *np.split(np.concatenate([x[np.argsort(np.abs(x))]]), 8))
    assert whole.low == pytest.approx(parts.low, rel=0.05)
    assert whole.high == pytest.approx(parts.high, rel=0.05)


@ALL
def test_nan_and_infinity_are_left_out_with_one_warning(name):
    clean = np.linspace(-1, 3, 1000)
    dirty = np.concatenate([clean, [np.nan, np.inf, -np.inf]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = observe(name, dirty, dirty)
    assert found == observe(name, clean, clean)
    assert {str(w.message) for w in caught} == {"tensor 'x': 3 NaN or infinite values left out"}
    assert len(caught) == 1


@ALL
@pytest.mark.filterwarnings("ignore:tensor 'x'")
def test_nothing_finite_is_an_error(name):
    for batches in ([], [[]], [[np.nan, np.nan]], [[np.inf]]):
        with pytest.raises(DataError, match=r"'x'.*no finite value"):
            observe(name, *batches)


@ALL
def test_empty_batches_are_skipped(name):
    assert observe(name, np.zeros((0, 3)), [1.0, 2.0], np.zeros((0, 3))) == observe(name, [1.0, 2.0])


@ALL
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-42, 3e38, -3e38, 1e-20])
def test_constant_tensors_get_a_usable_scale(name, value):
    scale, zero_point = activation_params(observe(name, np.full((2, 50), value)))
    assert np.isfinite(scale) and scale > 0
    q = np.clip(np.rint(np.float64(np.float32(value)) / np.float64(scale)) + zero_point, 0, 255)
    restored = (q - zero_point) * np.float64(scale)
    assert restored == pytest.approx(value, rel=0.01, abs=1e-12)


@ALL
def test_extreme_spreads(name):
    scale, _ = activation_params(observe(name, [-3.4e38, 3.4e38], [1e-38], [0.0]))
    assert np.isfinite(scale) and scale > 0


def test_histogram_grows_without_losing_a_count():
    histogram = Histogram("x")
    rng = np.random.default_rng(1)
    for size in (1e-6, 1.0, 1e3, 1e-3):
        histogram.update(rng.normal(size=500).astype(np.float32) * np.float32(size))
    histogram.update(np.zeros(7, np.float32))
    assert histogram.counts.sum() == 2000
    assert histogram.zeros == 7
    assert histogram.counts.size == BINS
    assert histogram.start <= histogram.low and histogram.high <= histogram.start + BINS * histogram.width


def test_minmax_is_exact():
    assert observe("minmax", [-1.5, 2.0], [0.25, 7.0]) == Range(-1.5, 7.0)
    assert observe("minmax", [2.0, 3.0]) == Range(0.0, 3.0)


def test_percentile_leaves_outliers_out():
    x = np.linspace(-1, 1, 400_000)
    x[0], x[-1] = -50, 80
    found = observe("percentile", x)
    assert -1.1 < found.low < -0.9
    assert 0.9 < found.high < 1.1


def test_percentile_of_few_values_is_their_range():
    assert observe("percentile", [-1.0, 2.0]) == Range(-1.0, 2.0)


def test_mse_beats_minmax_on_long_tails():
    rng = np.random.default_rng(2)
    x = rng.laplace(size=200_000).astype(np.float32)
    counts = np.ones(x.size)
    best, full = observe("mse", x), observe("minmax", x)
    assert best.high < full.high
    assert squared_error(best, x.astype(float), counts) < 0.8 * squared_error(full, x.astype(float), counts)


def test_mse_keeps_the_range_of_even_values():
    found = observe("mse", np.linspace(0, 6, 10_000))
    assert found.low == 0
    assert found.high == pytest.approx(6, rel=0.03)


def test_entropy_leaves_a_few_outliers_out_and_keeps_even_values():
    rng = np.random.default_rng(3)
    x = rng.normal(size=200_000).astype(np.float32)
    x[:4] = 30
    found = observe("entropy", x)
    assert 3 < found.high < 12
    assert found.low == pytest.approx(x.min(), rel=0.4)
    even = observe("entropy", np.linspace(0, 6, 100_000))
    assert even.low == 0
    assert even.high == pytest.approx(6, rel=0.03)


def test_divergence_by_hand():
    """Levels of [0, 255] are the integers: bins 1.0 and 1.2 share one, 3.0 has its own, 400 is clipped."""
    centers, counts = np.array([1.0, 1.2, 3.0, 400.0]), np.array([1.0, 3.0, 2.0, 2.0])
    p, q = np.array([1, 3, 4]) / 8, np.array([2, 2, 2]) / 6
    assert divergence(Range(0, 255), centers, counts) == pytest.approx((p * np.log(p / q)).sum())
    assert divergence(Range(0, 255), centers + 1000, counts) == np.inf


def test_average_is_the_mean_over_groups_of_samples_in_any_batches():
    x = np.random.default_rng(4).normal(size=(3 * GROUP + 5, 7))
    x[GROUP + 1, 3], x[-1, 0] = 30.0, 99.0  # the last group is not finished
    groups = x[: 3 * GROUP].reshape(3, -1)
    found = observe("average", x)
    np.testing.assert_allclose((found.low, found.high), (groups.min(1).mean(), groups.max(1).mean()))
    for cut in (1, GROUP - 1, GROUP, 2 * GROUP + 3):
        assert observe("average", x[:cut], x[cut:]) == found
    with pytest.warns(RuntimeWarning):
        assert observe("average", x[:50], np.full((9, 7), np.nan), x[50:]) == found


def test_average_of_few_samples_is_their_range():
    assert observe("average", np.array([[-1, 2], [-3, 4], [0, 30]])) == Range(-3.0, 30.0)


@ALL
def test_memory_does_not_grow_with_the_data(name):
    observer = OBSERVERS[name]("x")
    sizes = set()
    for seed in range(4):
        observer.update(np.random.default_rng(seed).normal(size=(8, 5000)).astype(np.float32))
        sizes.add(sum(getattr(entry, "nbytes", 0) for entry in vars(observer).values()))
    assert len(sizes) == 1
    assert sizes.pop() <= 8 * BINS
