"""Rounding with error feedback: on the grid, better than nearest, zeros kept, the mean restored."""

import numpy as np
import pytest
from helpers import level_grid
from onnx import helper
from toolmodels import build, he, make_run, residual_net, shared_net

from pyruntime import graph
from pyruntime.layers import find_layers
from pyruntime.quantize.weights import channel_max
from pyruntime.recover.rounding import damping, refine_columns, round_columns, round_weights
from pyruntime.recover.solve import DAMPING, Problem


def coarse_grid(layer, levels=7):
    return level_grid((channel_max(layer.array()) / levels).astype(np.float32))


def grids_of(model):
    return {(layer.weight_name, layer.axis): coarse_grid(layer) for layer in find_layers(model)}


def correlated(rng, rows, columns):
    return rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))


def damped(moments):
    """H `[groups, k, k]` as rounding damps it."""
    k = moments.shape[1]
    return np.stack([Problem.of(group, np.zeros((1, k)), np.zeros((1, k))).hessian for group in moments])


def error(hessian, weight, rounded):
    off = weight - rounded
    return float(np.einsum("gok,gkl,gol->", off, hessian, off))


@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 16, 24), (1, 4, 300), (5, 2, 9), (3, 1, 1)])
def test_beats_rounding_to_nearest(groups, rows, columns):
    rng = np.random.default_rng(columns)
    x = np.stack([correlated(rng, 4 * columns, columns) for _ in range(groups)])
    hessian = damped(x.transpose(0, 2, 1) @ x / x.shape[1])
    weight = rng.normal(size=(groups, rows, columns))
    grid = level_grid((np.abs(weight).max(axis=2).reshape(-1) / 7).astype(np.float32))
    nearest = grid.round(weight.reshape(groups * rows, columns)).reshape(weight.shape)
    rounded = round_columns(hessian, weight, grid)
    ratio = error(hessian, weight, rounded) / max(error(hessian, weight, nearest), 1e-30)
    assert ratio < 0.7 if columns > 1 else ratio == pytest.approx(1.0, abs=1e-9)
    better = refine_columns(hessian, weight, rounded, grid, sweeps=4)
    assert error(hessian, weight, better) <= error(hessian, weight, rounded)
    again = grid.round(better.reshape(groups * rows, columns)).reshape(weight.shape)
    np.testing.assert_array_equal(again.astype(np.float32), better.astype(np.float32))
    steps = rounded / grid.scales.reshape(groups, rows, 1)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)


def test_zeros_stay_zero():
    """Inputs that are nearly copies of one another: an error moved to a zero weight would make up for it."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 1)) + 0.05 * rng.normal(size=(200, 20))
    weight = np.where(rng.random((1, 8, 20)) < 0.6, 0.0, rng.normal(size=(1, 8, 20)))
    grid = level_grid(np.full(8, 0.5, np.float32))
    rounded = round_columns(damped((x.T @ x / 200)[None]), weight, grid)
    assert (rounded[weight == 0] == 0).all()
    better = refine_columns(damped((x.T @ x / 200)[None]), weight, rounded, grid, sweeps=4)
    assert (better[weight == 0] == 0).all()
    moved = rounded[0] - grid.round(weight[0])
    assert np.abs(moved).max() > 0.4  # errors did move to weights that may take them


def test_dead_and_doubled_inputs():
    moments = np.zeros((2, 3, 3))
    moments[1] = 1.0  # three copies of one input
    hessian = damped(moments)
    assert np.isfinite(np.linalg.inv(hessian)).all()
    weight = np.full((2, 1, 3), 0.4)
    rounded = round_columns(hessian, weight, level_grid(np.ones(2, np.float32)))
    assert rounded[0].tolist() == [[0, 0, 0]]
    assert rounded[1].sum() == 1.0  # 3 * 0.4 = 1.2: the copies make up for each other


@pytest.mark.parametrize("sequential", [False, True])
def test_a_network_loses_less_than_by_rounding_to_nearest(sequential):
    rng = np.random.default_rng(2)
    reference = residual_net(rng, channels=16)
    smooth = rng.normal(size=(80, 3, 4, 4)).repeat(4, axis=-1).repeat(4, axis=-2)
    x = (smooth + 0.2 * rng.normal(size=smooth.shape)).astype(np.float32)
    model, nearest = graph.clone(reference), graph.clone(reference)
    for layer in find_layers(nearest):
        flat = layer.array().reshape(len(layer.array()), -1)
        rounded = coarse_grid(layer).round(flat).astype(np.float32)
        graph.set_initializer(nearest, layer.weight, layer.stored(rounded.reshape(layer.array().shape)))
    grids = grids_of(model)
    round_weights(model, {"x": x[:64]}, grids, sequential=sequential, make_run=make_run)
    wanted, got, plain = (make_run(m)({"x": x[64:]})["y"] for m in (reference, model, nearest))
    assert np.square(got - wanted).mean() < 0.6 * np.square(plain - wanted).mean()
    for layer in find_layers(model):
        flat = layer.array().reshape(len(layer.array()), -1)
        again = grids[layer.weight_name, layer.axis].round(flat)
        np.testing.assert_array_equal(again.astype(np.float32), flat)


def test_the_mean_of_every_output_comes_back():
    rng = np.random.default_rng(3)
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=2)],
        {"w": he(rng, 6, 2, 3, 3)},
        {"x": ["N", 4, 8, 8]},
        {"y": ["N", 6, 8, 8]},
    )
    x = (np.abs(rng.normal(size=(32, 4, 8, 8))) + 1).astype(np.float32)
    wanted = make_run(model)({"x": x})["y"].mean(axis=(0, 2, 3))
    round_weights(model, {"x": x}, grids_of(model), make_run=make_run)
    found = make_run(model)({"x": x})["y"].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_shared_weights_stay():
    model = shared_net(np.random.default_rng(1))
    before = graph.constant(model.graph.initializers["w"]).copy()
    x = np.random.default_rng(0).normal(size=(8, *graph.dims(model.graph.inputs[0])[1:]))
    round_weights(
        model, {model.graph.inputs[0].name: x.astype(np.float32)}, grids_of(model), make_run=make_run
    )
    np.testing.assert_array_equal(graph.constant(model.graph.initializers["w"]), before)


def test_learned_rounding_is_kept_only_where_it_is_closer(monkeypatch):
    """With a learned rounding that always rounds down, nothing changes."""
    rng = np.random.default_rng(5)
    model = residual_net(rng, channels=8)
    data = {"x": rng.normal(size=(16, 3, 16, 16)).astype(np.float32)}
    without, learned = graph.clone(model), graph.clone(model)
    round_weights(without, data, grids_of(without), make_run=make_run)
    monkeypatch.setattr(
        "pyruntime.recover.rounding.soft_round",
        lambda hessian, weight, grid: np.where(weight == 0, 0.0, -10 * np.abs(weight).max()),
    )
    round_weights(learned, data, grids_of(learned), learned=True, make_run=make_run)
    for a, b in zip(find_layers(without), find_layers(learned), strict=True):
        np.testing.assert_array_equal(a.array(), b.array())


def test_damping_grows_where_samples_are_few():
    assert damping(100, 10**9) == DAMPING
    assert damping(1000, 1000) == pytest.approx(0.1)
    assert damping(10**6, 10) == 1.0
