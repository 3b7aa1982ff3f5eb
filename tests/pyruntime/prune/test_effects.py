"""Effects on the outputs, against a network in which the channel or weight really is changed."""

import numpy as np
import pytest
from channel_nets import ChannelNet
from toolmodels import make_run

from pyruntime import graph
from pyruntime.layers import find_layers
from pyruntime.prune import effects as effects_module
from pyruntime.prune.effects import BATCH, measure_effects

SAMPLES = 128 * BATCH


def linear_net(group=1):
    """Linear in all its tensors, so first order is all there is."""
    net = ChannelNet(3)
    x = net.filters(net.input(["N", 4, 5, 5]), 4, 6, 3)
    x = net.filters(x, 6, 8, 3, group=group)
    return net.finish(net.dense(net.op("Flatten", net.op("GlobalAveragePool", x)), 8, 3))


def change(model, layer, entry, centred=True):
    """Mean square change of the outputs, with or without its mean, relative to their variance."""
    rng = np.random.default_rng(1)
    x = {"x": rng.normal(size=(512, 4, 5, 5)).astype(np.float32)}
    changed = graph.clone(model)
    other = next(found for found in find_layers(changed) if found.name == layer.name)
    array = other.array().copy()
    array[entry] = 0
    graph.set_initializer(changed, other.weight, other.stored(array))
    y, z = (next(iter(make_run(m)(x).values())).astype(np.float64) for m in (model, changed))
    changes = (z - y).var(axis=0) if centred else np.square(z - y).mean(axis=0)
    return changes.sum() / y.var(axis=0).sum()


@pytest.mark.parametrize("group", [1, 2])
def test_channels_of_a_linear_network(group, monkeypatch):
    monkeypatch.setattr(effects_module, "SAMPLES", SAMPLES)
    model = linear_net(group)
    data = {"x": np.random.default_rng(0).normal(size=(SAMPLES, 4, 5, 5)).astype(np.float32)}
    effects = measure_effects(model, find_layers(model), data, weights=True, make_run=make_run)
    middle = find_layers(model)[1]
    found = effects[middle.name]
    everything = slice(None)
    for channel in range(8):
        wanted = change(model, middle, (channel,))
        assert found.outputs[channel] == pytest.approx(wanted, rel=0.35)
    wanted = [change(model, middle, (everything, everything, i)) for i in range(6 // group)]
    np.testing.assert_allclose(found.inputs, wanted, rtol=0.45)
    assert np.corrcoef(found.inputs, wanted)[0, 1] > 0.95
    assert found.weights.shape == middle.array().shape
    largest = np.unravel_index(np.argsort(found.weights, axis=None)[-5:], found.weights.shape)
    for place in zip(*largest, strict=True):
        assert found.weights[place] == pytest.approx(change(model, middle, place, False), rel=0.35)


def test_what_no_output_depends_on_has_no_effect():
    model = linear_net()
    first, middle, head = find_layers(model)
    array = graph.constant(head.weight).copy()
    array[:, 5] = 0
    graph.set_initializer(model, head.weight, array)
    data = {"x": np.random.default_rng(0).normal(size=(64, 4, 5, 5)).astype(np.float32)}
    effects = measure_effects(model, [first, middle, head], data, make_run=make_run)
    assert effects[middle.name].outputs[5] == 0 == effects[head.name].inputs[5]
    assert (np.delete(effects[middle.name].outputs, 5) > 0).all()
    assert effects[head.name].weights is None
