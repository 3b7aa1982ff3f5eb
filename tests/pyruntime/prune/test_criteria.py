from dataclasses import replace

import numpy as np
import pytest

from pyruntime.prune.criteria import CRITERIA, Measured, Subject


def weights(name, subject):
    return CRITERIA[name].weights(subject)


def measured(x, y=None, groups=1):
    """From inputs `[rows, groups * k]`."""
    x = x.reshape(len(x), groups, -1).transpose(1, 0, 2)
    moments = x.transpose(0, 2, 1) @ x / x.shape[1]
    return Measured(x.mean(axis=1), moments, signal=1.0 if y is None else float(y.var(axis=0).mean()))


def test_magnitude_neither_overflows_nor_loses_small_weights():
    for name in ("magnitude", "l1"):
        scores = weights(name, Subject("w", np.array([[[3e38, -1e-30, 0.0]]], np.float32)))
        assert np.isfinite(scores).all()
        assert scores[0, 0, 1] > 0 == scores[0, 0, 2]


def test_l1_and_l2_rank_rows_differently():
    rows = np.array([[[3.0, 0.0]], [[2.0, 2.0]]], np.float32)
    l1, l2 = (weights(name, Subject("w", rows)).mean(axis=(1, 2)) for name in ("l1", "magnitude"))
    assert l1[0] < l1[1] and l2[0] > l2[1]


def test_random_repeats_and_spares_no_zero():
    weight = np.ones((4, 1, 4), np.float32)
    weight[0] = 0
    first = weights("random", Subject("w", weight))
    np.testing.assert_array_equal(first, weights("random", Subject("w", weight)))
    assert (first[0] == 0).all()
    assert (first[1:] > 0).all()
    assert not np.array_equal(first, weights("random", Subject("v", weight)))
    filters = CRITERIA["random"].filters(Subject("w", weight))
    assert filters[0] == 0 and len(set(filters[1:].tolist())) == 3
    assert CRITERIA["random"].channels(Subject("w", weight)).shape == (4,)


def test_geometric_median_finds_the_filter_in_the_middle():
    points = np.array([[0.0, 0], [4, 0], [0, 4], [4, 4], [2, 2.1]], np.float32)
    filters = CRITERIA["geometric_median"].filters(Subject("w", points[:, None, :]))
    assert int(np.argmin(filters)) == 4
    np.testing.assert_allclose(filters[0], 4 + 4 + np.sqrt(32) + np.hypot(2, 2.1), rtol=1e-6)
    channels = CRITERIA["geometric_median"].channels(Subject("w", points.T[:, None, :]))
    np.testing.assert_allclose(channels, filters, rtol=1e-6)
    halves = CRITERIA["geometric_median"].filters(Subject("w", points[:4, None, :], groups=2))
    np.testing.assert_allclose(halves, [4, 4, 4, 4], rtol=1e-6)


def test_bn_scale_is_the_deviation_of_the_output():
    subject = Subject("w", np.ones((2, 1, 1), np.float32), measured=Measured(deviation=np.array([0.5, 2.0])))
    assert CRITERIA["bn_scale"].filters(subject).tolist() == [0.5, 2.0]
    assert CRITERIA["bn_scale"].weights is None


@pytest.mark.parametrize("groups", [1, 2])
def test_wanda_is_the_energy_a_weight_adds(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) * np.arange(1, 7)
    weight = rng.normal(size=(4, 1, 6 // groups)).astype(np.float32)
    scores = weights("wanda", Subject("w", weight, groups, measured(x, groups=groups)))
    for out in range(4):
        part = x[:, out * groups // 4 * (6 // groups) :][:, : 6 // groups]
        np.testing.assert_allclose(scores[out, 0], np.square(part * weight[out, 0]).mean(axis=0), rtol=1e-5)


def correlated(rng, rows=4000):
    """Six inputs, the last of them nearly the sum of the first two."""
    x = rng.normal(size=(rows, 6)) + 1.0
    x[:, 5] = x[:, 0] + x[:, 1] + 0.05 * rng.normal(size=rows)
    return x


def test_obs_is_what_is_lost_after_the_rest_has_adapted():
    rng = np.random.default_rng(1)
    x = correlated(rng)
    weight = rng.normal(size=(3, 1, 6)).astype(np.float32)
    y = x @ weight[:, 0].T
    scores = weights("obs", Subject("w", weight, measured=measured(x, y)))
    centred, total = x - x.mean(axis=0), y.var(axis=0).sum()
    for out in range(3):
        for column in range(6):
            rest = np.delete(centred, column, axis=1)
            target = centred @ weight[out, 0]
            fitted = rest @ np.linalg.lstsq(rest, target, rcond=None)[0]
            lost = np.square(target - fitted).mean() / total
            # Damping makes the loss larger, most where another input stands in.
            assert lost * 0.9 <= scores[out, 0, column] <= lost * 1.3 + 0.02
    zero = replace(measured(np.zeros((10, 6))), signal=0.0)
    assert np.isfinite(weights("obs", Subject("w", weight, measured=zero))).all()


def test_obs_drops_a_channel_that_others_stand_in_for():
    rng = np.random.default_rng(2)
    x = correlated(rng)
    weight = rng.normal(size=(3, 1, 6)).astype(np.float32)
    weight[:, 0, 5] = 10  # large, and yet replaceable
    subject = Subject("w", weight, measured=measured(x, x @ weight[:, 0].T))
    costs = CRITERIA["obs"].channels(subject)
    assert np.argmax(CRITERIA["magnitude"].weights(subject).mean(axis=(0, 1))) == 5
    order = np.argsort(costs)
    # One of the three that depend on each other goes first, the two that are left cost much more.
    assert order[0] in (0, 1, 5)
    alone = {0, 1, 5} - {int(order[0])}
    assert min(costs[list(alone)]) > 5 * costs[order[0]]


def test_obs_counts_every_tap():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 8))  # two taps of four channels, independent
    weight = rng.normal(size=(3, 2, 4)).astype(np.float32)
    costs = CRITERIA["obs"].channels(Subject("w", weight, measured=measured(x, x @ weight.reshape(3, 8).T)))
    energy = np.square(weight).sum(axis=(0, 1)) / np.square(weight).sum()
    np.testing.assert_allclose(np.sort(costs), np.sort(energy), rtol=0.25)
    assert np.argmin(costs) == np.argmin(energy)


def test_taylor_drops_the_smallest_of_the_weights_without_an_effect():
    weight = np.array([[[4.0, 1.0, 2.0, 0.0]]], np.float32)
    effects = np.array([[[0.0, 0.0, 8.0, 0.0]]])
    scores = weights("taylor", Subject("w", weight, measured=Measured(weights=effects)))[0, 0]
    assert 0 == scores[3] < scores[1] < scores[0] < scores[2] == pytest.approx(8.0, rel=0.02)
