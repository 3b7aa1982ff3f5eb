"""`filter` and `channel`: which channels go, and how many."""

import numpy as np
import pytest
from channel_nets import ChannelNet
from toolmodels import make_run, residual_net

from pyruntime import graph
from pyruntime.errors import DataError, OptionError
from pyruntime.evaluate import observe
from pyruntime.layers import find_layers
from pyruntime.prune import parse_spec, prune
from pyruntime.prune.criteria import CRITERIA
from pyruntime.prune.macs import macs

DATA = {"x": np.random.default_rng(5).normal(size=(24, 3, 8, 8)).astype(np.float32)}


def chain(widths=(48, 64, 40), seed=0):
    net = ChannelNet(seed)
    x, before = net.input(["N", 3, 8, 8]), 3
    for width in widths:
        x, before = net.op("Relu", net.filters(x, before, width, 3)), width
    return net.head(x, before)


def widths(model):
    return [layer.shape[layer.axis] for layer in find_layers(model)][:-1]


def removed(text, model=None, data=None):
    model = chain() if model is None else model
    report = prune(model, [parse_spec(text)], data, make_run=make_run)
    return model, report


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("kind", ["filter", "channel"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_every_criterion_removes_what_is_asked(name, kind, scope):
    model, report = removed(f"{kind}=0.4,criterion={name},scope={scope},round_to=1", data=DATA)
    assert abs(sum(widths(model)) - 0.6 * (48 + 64 + 40)) <= 2
    if scope == "layer":
        assert widths(model) == [29, 38, 24]
    assert [(row.before, row.after) for row in report.groups[:3]] == list(
        zip((48, 64, 40), widths(model), strict=True)
    )
    assert all(np.isfinite(array).all() for array in make_run(model)(DATA).values())


@pytest.mark.parametrize(("step", "kept"), [(16, [32, 32, 16]), (8, [24, 32, 24]), (1, [24, 32, 20])])
def test_counts_are_rounded(step, kept):
    model, _ = removed(f"filter=0.5,scope=layer,round_to={step}")
    assert widths(model) == kept


def test_sixteen_is_the_default_and_small_layers_stay():
    model, report = removed("filter=0.9", chain((12, 16, 64)))
    assert widths(model) == [12, 16, 16]
    assert [row.skipped for row in report.groups][:3] == [
        "12 channels, not to be cut at 16",
        "16 channels, not to be cut at 16",
        "",
    ]
    assert report.groups[3].skipped.startswith("network output")


def test_never_to_zero():
    model, _ = removed("filter=0.999,round_to=1")
    assert widths(model) == [1, 1, 1]


@pytest.mark.parametrize("name", ["magnitude", "obs"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("amount", [0.3, 0.5])
def test_macs_are_cut_by_the_fraction(name, scope, amount):
    before = chain()
    text = f"channel,macs={amount},criterion={name},scope={scope},round_to=1"
    model, report = removed(text, graph.clone(before), DATA)
    assert report.macs_before == macs(before) == 64 * 9 * (3 * 48 + 48 * 64 + 64 * 40) + 40 * 5
    assert report.macs_after == macs(model)
    assert abs(report.macs_after / report.macs_before - (1 - amount)) < 0.02


def test_filters_with_the_smallest_norm_go():
    model = chain()
    weight = graph.constant(find_layers(model)[1].weight)
    norms = np.square(weight).sum(axis=(1, 2, 3))
    _, report = removed(f"filter=0.25,only={find_layers(model)[1].name},round_to=1", model)
    kept = report.kept[find_layers(model)[1].weight_name][0]
    assert set(kept) == set(np.argsort(norms)[16:])
    assert widths(model) == [48, 48, 40]


def test_channels_are_judged_by_what_reads_them():
    model = chain()
    reader = find_layers(model)[2]
    norms = np.square(graph.constant(reader.weight)).sum(axis=(0, 2, 3))
    _, report = removed(f"channel=0.25,only={reader.name},round_to=1", model)
    kept = report.kept[reader.weight_name][1]
    assert set(kept) == set(np.argsort(norms)[16:])


def test_a_dead_channel_goes_first():
    for name in ("obs", "wanda", "bn_scale"):
        model = chain()
        first = find_layers(model)[0]
        array, bias = graph.constant(first.weight).copy(), graph.constant(first.bias).copy()
        array[7], bias[7] = 0.01 * array[7], -100
        graph.set_initializer(model, first.weight, array)
        graph.set_initializer(model, first.bias, bias)
        reader = find_layers(model)[1].name
        _, report = removed(f"channel=0.03,only={reader},criterion={name},round_to=1", model, DATA)
        assert 7 not in report.kept[first.weight_name][0], name


def test_excluded_layers_keep_their_channels():
    model = chain()
    second = find_layers(model)[1].name
    removed(f"filter=0.5,exclude={second},round_to=1", model)
    assert widths(model)[1] == 64 and widths(model)[0] < 48
    model = chain()
    _, report = removed(f"channel=0.5,exclude={second},round_to=1", model)
    assert widths(model)[0] == 48 and widths(model)[1] < 64
    assert report.groups[0].skipped == "left out by the options"
    with pytest.raises(OptionError, match="matches no layer"):
        removed("filter=0.5,only=nose")


def test_one_spec_after_the_other():
    """What stayed of a tensor is told in terms of the original."""
    model = chain()
    original = graph.clone(model)
    specs = [parse_spec(f"filter=0.25,scope=layer,round_to=1,criterion={name}") for name in ("random", "l1")]
    report = prune(model, [*specs, parse_spec("weight=0.5")])
    view = report.view(original)
    for layer, first, seen in zip(find_layers(model), find_layers(original), find_layers(view), strict=True):
        assert seen.shape == layer.shape
        here = layer.array() != 0
        np.testing.assert_array_equal(layer.array()[here], seen.array()[here])
        assert first.shape[layer.axis] >= layer.shape[layer.axis]
    assert [row.weight for row in report.layers] == [layer.weight_name for layer in find_layers(model)]


def test_a_view_shows_the_tensors_of_the_whole_network():
    model = chain()
    original = graph.clone(model)
    _, report = removed("filter=0.5,round_to=1", model)
    name = find_layers(model)[1].node.outputs[0].name
    (whole,) = observe(original, DATA, [name], make_run)
    (seen,) = observe(report.view(original), DATA, [name], make_run)
    np.testing.assert_array_equal(seen[name], whole[name][:, report.kept[name][1]])


def test_tied_layers_are_reported_together():
    model = residual_net(np.random.default_rng(0), channels=32)
    _, report = removed("filter=0.5", model)
    stream = report.groups[0]
    assert stream.layers == ("stem", "body", "depthwise")
    assert (stream.before, stream.after) == (32, 16)


@pytest.mark.parametrize("name", [name for name, entry in CRITERIA.items() if entry.needs])
@pytest.mark.parametrize("kind", ["filter", "channel"])
def test_data_are_asked_for(name, kind):
    with pytest.raises(DataError, match=f"criterion '{name}' needs calibration data"):
        removed(f"{kind}=0.5,criterion={name}")


def test_two_runs_are_the_same():
    weights = [
        [layer.array() for layer in find_layers(removed("channel,macs=0.4,criterion=obs", data=DATA)[0])]
        for _ in range(2)
    ]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
