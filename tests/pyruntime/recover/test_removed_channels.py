"""Recovery of networks that lost whole channels: the float network is seen through those that stayed."""

import numpy as np
import pytest
from channel_nets import ChannelNet
from toolmodels import make_run, residual_net, sqnr_db

from pyruntime import graph
from pyruntime.layers import find_layers
from pyruntime.prune import parse_spec, prune
from pyruntime.recover import match_statistics, update_pruned


def data(count=64, seed=0, shape=(3, 16, 16)):
    """Smooth images: neighbouring inputs are correlated, as in pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, shape[0], shape[1] // 4, shape[2] // 4))
    return (coarse.repeat(4, axis=-1).repeat(4, axis=-2) + 0.2 * rng.normal(size=(count, *shape))).astype(
        np.float32
    )


def quality(model, reference):
    """Output SQNR on data that recovery has not seen."""
    x = data(seed=99)
    return sqnr_db(make_run(reference)({"x": x})["y"], make_run(model)({"x": x})["y"])


def pruned(*texts, seed=0):
    reference = residual_net(np.random.default_rng(seed), channels=16)
    model = graph.clone(reference)
    report = prune(model, [parse_spec(text) for text in texts], {"x": data()}, make_run=make_run)
    return model, reference, report


@pytest.mark.parametrize("text", ["filter=0.3,round_to=1", "channel=0.3,round_to=1,criterion=obs"])
def test_least_squares_makes_up_for_channels(text):
    model, reference, report = pruned(text)
    before = quality(model, reference)
    update_pruned(model, report.view(reference), {"x": data()}, report.granularities, make_run=make_run)
    after = quality(model, reference)
    assert after > before + 2
    match_statistics(model, report.view(reference), {"x": data()}, make_run=make_run)
    assert quality(model, reference) > after - 0.5


def test_random_channels_are_made_up_for():
    """The random choice with rescaled survivors of the literature: survivors are refitted, all of them."""
    model, reference, report = pruned("filter=0.3,round_to=1,criterion=random")
    before = quality(model, reference)
    update_pruned(model, report.view(reference), {"x": data()}, {}, make_run=make_run)
    assert quality(model, reference) > before + 2


def test_channels_then_blocks():
    model, reference, report = pruned("filter=0.25,round_to=1", "block4=0.3")
    before = quality(model, reference)
    zeros = {layer.name: int((layer.array() == 0).sum()) for layer in find_layers(model)}
    update_pruned(model, report.view(reference), {"x": data()}, report.granularities, make_run=make_run)
    match_statistics(model, report.view(reference), {"x": data()}, make_run=make_run)
    assert quality(model, reference) > before + 2
    assert {layer.name: int((layer.array() == 0).sum()) for layer in find_layers(model)} == zeros


def test_a_redundant_channel_costs_nothing():
    """Every channel is there twice: half of them can go without a trace once the others have adapted."""
    net = ChannelNet(0)
    x = net.input(["N", 3, 8, 8])
    first = net.op("Relu", net.filters(x, 3, 6, 3))
    model = net.head(net.filters(net.op("Concat", first, first, axis=1), 12, 4, 1), 4)
    layer = find_layers(model)[0]
    for value in (layer.weight, layer.bias):
        array = graph.constant(value)
        graph.set_initializer(model, value, np.concatenate([array[:3], array[:3]]))
    reference = graph.clone(model)
    feeds = {"x": data(64, shape=(3, 8, 8))}
    report = prune(
        model,
        [parse_spec(f"channel=0.5,criterion=obs,round_to=1,only={find_layers(model)[1].name}")],
        feeds,
        make_run=make_run,
    )
    assert find_layers(model)[0].shape[0] == 3
    assert sorted(report.kept[layer.weight_name][0] % 3) == [0, 1, 2]
    update_pruned(model, report.view(reference), feeds, {}, make_run=make_run)
    wanted, found = (next(iter(make_run(m)(feeds).values())) for m in (reference, model))
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
