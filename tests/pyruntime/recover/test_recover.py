"""Each step must bring a damaged network closer to the float one."""

import numpy as np
import pytest
from helpers import level_grid
from onnx import helper
from toolmodels import build, he, make_run, residual_net, shared_net, sqnr_db

from pyruntime import graph
from pyruntime.evaluate import observe
from pyruntime.layers import find_layers
from pyruntime.prune import parse_spec, prune
from pyruntime.quantize.weights import channel_max, weight_scales
from pyruntime.recover import correct_bias, match_statistics, update_pruned
from pyruntime.recover.bias import bias_shift
from pyruntime.recover.bn import MAX_GAIN, channel_gain


def data(count=64, seed=0, shape=(3, 16, 16)):
    """Smooth images: neighbouring inputs are correlated, as in pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, *shape[:-2], shape[-2] // 4, shape[-1] // 4))
    smooth = coarse.repeat(4, axis=-1).repeat(4, axis=-2)
    return (smooth + 0.2 * rng.normal(size=(count, *shape))).astype(np.float32)


def quality(model, reference, seed=99):
    """Output SQNR on data that recovery has not seen."""
    x = data(seed=seed)
    return sqnr_db(make_run(reference)({"x": x})["y"], make_run(model)({"x": x})["y"])


def grids_of(model):
    """Grids whose level 127 is the largest magnitude of each channel."""
    return {
        (layer.weight_name, layer.axis): level_grid(weight_scales(channel_max(layer.array())))
        for layer in find_layers(model)
    }


def pruned(text, seed=0):
    reference = residual_net(np.random.default_rng(seed), channels=16)
    model = graph.clone(reference)
    report = prune(model, [parse_spec(text)])
    granularities = {row.weight: row.granularity for row in report.layers if not row.skipped}
    return reference, model, granularities


@pytest.mark.parametrize("text", ["block4=0.5", "weight=0.6", "2:4", "block4=0.5,criterion=random"])
def test_obs_recovers_and_keeps_the_number_of_zeros(text):
    reference, model, granularities = pruned(text)
    before = quality(model, reference)
    zeros = {layer.name: int((layer.array() == 0).sum()) for layer in find_layers(model)}
    update_pruned(model, reference, {"x": data()}, granularities, make_run=make_run)
    assert quality(model, reference) > before + 3
    assert {layer.name: int((layer.array() == 0).sum()) for layer in find_layers(model)} == zeros


def test_obs_keeps_the_mask_of_an_unnamed_granularity():
    reference, model, _ = pruned("weight=0.5,only=body")
    mask = graph.constant(model.graph.initializers["w2"]) == 0
    before = quality(model, reference)
    update_pruned(model, reference, {"x": data()}, {}, make_run=make_run)
    np.testing.assert_array_equal(graph.constant(model.graph.initializers["w2"]) == 0, mask)
    assert quality(model, reference) > before


def test_statistics_come_back():
    reference, model, _ = pruned("block4=0.5")
    before = quality(model, reference)
    zeros = {layer.name: layer.array() == 0 for layer in find_layers(model)}
    x = data()
    match_statistics(model, reference, {"x": x}, make_run=make_run)
    assert quality(model, reference) > before
    for layer in find_layers(model):
        assert (layer.array()[zeros[layer.name]] == 0).all()
    now, then = make_run(model)({"x": x})["y"], make_run(reference)({"x": x})["y"]
    np.testing.assert_allclose(now.mean(axis=0), then.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(now.std(axis=0), then.std(axis=0), rtol=1e-2)


@pytest.mark.parametrize("step", [update_pruned, match_statistics])
def test_means_come_back_in_deep_networks(step):
    """Each correction must see those before it: all means come back, not those of every n-th layer."""
    rng = np.random.default_rng(3)
    depth, nodes, weights, last = 40, [], {}, "x"
    for i in range(depth):
        weights[f"w{i}"] = he(rng, 6, 6, 3, 3)
        weights[f"b{i}"] = rng.normal(size=6).astype(np.float32) * 0.1
        nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last = f"r{i}"
    reference = build(nodes, weights, {"x": ["N", 6, 8, 8]}, {last: ["N", 6, 8, 8]})
    model = graph.clone(reference)
    prune(model, [parse_spec("weight=0.4,scope=layer")])
    x = data(32, shape=(6, 8, 8))
    more = ({},) if step is update_pruned else ()
    step(model, reference, {"x": x}, *more)
    for number in (5, 6, 7, 20, 21, 39):
        name = f"c{number}"
        (now,), (then,) = (list(observe(net, {"x": x}, [name])) for net in (model, reference))
        mean, std = then[name].mean(axis=(0, 2, 3)), then[name].std(axis=(0, 2, 3))
        np.testing.assert_allclose(now[name].mean(axis=(0, 2, 3)), mean, atol=0.02 * std.max())


@pytest.mark.parametrize("step", [update_pruned, match_statistics])
def test_unpruned_and_shared_layers_stay(step):
    reference = shared_net(np.random.default_rng(1))
    model = graph.clone(reference)
    prune(model, [parse_spec("weight=0.5,only=first")])
    before = (
        graph.constant(model.graph.initializers["w"]).copy(),
        graph.constant(model.graph.initializers["v"]),
    )
    more = ({"w": "weight"},) if step is update_pruned else ()
    step(model, reference, {"x": data(16, shape=(4, 8, 8))}, *more, make_run=make_run)
    np.testing.assert_array_equal(graph.constant(model.graph.initializers["w"]), before[0])
    np.testing.assert_array_equal(graph.constant(model.graph.initializers["v"]), before[1])


def test_steps_repeat_bit_for_bit():
    weights = []
    for _ in range(2):
        reference, model, granularities = pruned("block4=0.5")
        update_pruned(model, reference, {"x": data()}, granularities, make_run=make_run)
        match_statistics(model, reference, {"x": data()}, make_run=make_run)
        weights.append([layer.array() for layer in find_layers(model)])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_bias_takes_back_the_shift_of_rounding():
    """Few coarse weights on inputs far from zero: rounding moves every output."""
    rng = np.random.default_rng(2)
    w = he(rng, 6, 4, 3, 3)
    w[:, 0, 0, 0] = 40.0  # one large weight makes the others coarse
    model = build(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])],
        {"w": w, "b": np.zeros(6, np.float32)},
        {"x": ["N", 4, 8, 8]},
        {"y": ["N", 6, 8, 8]},
    )
    x = np.abs(data(32, shape=(4, 8, 8))) + 1
    (layer,) = find_layers(model)
    rounded = np.round(w / (40 / 127)) * (40 / 127)
    shift = make_run(model)({"x": x})["y"].mean(axis=(0, 2, 3))
    coarse = graph.clone(model)
    graph.set_initializer(coarse, "w", rounded.astype(np.float32))
    shift = shift - make_run(coarse)({"x": x})["y"].mean(axis=(0, 2, 3))
    assert np.abs(shift).max() > 0.1
    correct_bias(model, {"x": x}, grids_of(model), make_run=make_run)
    np.testing.assert_allclose(graph.constant(layer.bias), shift, atol=1e-3)


def test_bias_shift_of_groups():
    weight = np.zeros((4, 1, 2), np.float32)
    weight[:, 0] = [[127, 0.4], [127, 0.3], [127, -0.4], [127, 0.6]]
    mean = np.array([[[0, 1.0]], [[0, 10.0]]])
    grid = level_grid(np.ones(4, np.float32))
    np.testing.assert_allclose(bias_shift(weight, mean, grid), [0.4, 0.3, -4, -4], atol=1e-5)


def test_layers_without_bias_get_one():
    model = residual_net(np.random.default_rng(0))
    correct_bias(model, {"x": data(8)}, grids_of(model), make_run=make_run)
    (layer,) = (layer for layer in find_layers(model) if layer.name == "depthwise")
    assert graph.constant(layer.bias).shape == (8,)


def test_gains_are_bounded():
    std = np.array([1.0, 1.0, 1.0, 0.0])
    gain = channel_gain(std, np.array([0.5, 0.0, 1e-3, 1.0]))
    assert gain.tolist() == [2.0, 1.0, MAX_GAIN, 1.0]
