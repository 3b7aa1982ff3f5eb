import numpy as np
import pytest
from toolmodels import make_run, residual_net, shared_net

from pyruntime import graph
from pyruntime.errors import DataError, ModelError, OptionError
from pyruntime.prune import parse_spec, prune
from pyruntime.prune.criteria import CRITERIA


@pytest.fixture
def model():
    return residual_net(np.random.default_rng(0))


def weight(model, name):
    return graph.constant(model.graph.initializers[name])


def test_weights_of_all_layers_reach_the_ratio(model):
    report = prune(model, [parse_spec("weight=0.7")])
    arrays = [weight(model, name) for name in ("w1", "w2", "wd", "w3")]
    total = sum(array.size for array in arrays)
    assert sum((array == 0).sum() for array in arrays) == round(0.7 * total)
    assert report.pruned == ["w1", "w2", "wd", "w3"]


def test_each_layer_reaches_the_ratio(model):
    prune(model, [parse_spec("block4=0.5,scope=layer")])
    for name in ("w2", "w3"):
        assert (weight(model, name) == 0).mean() == 0.5


def test_blocks_fall_whole_and_unfit_layers_stay(model):
    before = weight(model, "w1"), weight(model, "wd")
    report = prune(model, [parse_spec("block4=0.6")])
    blocks = weight(model, "w2").reshape(8, 2, 4, 9)
    zeros = (blocks == 0).sum(axis=2)
    assert set(np.unique(zeros)) == {0, 4}
    assert {row.weight: row.skipped for row in report.layers if row.skipped} == {
        "w1": "3 input channels, fewer than 4",
        "wd": "depthwise",
    }
    np.testing.assert_array_equal(weight(model, "w1"), before[0])
    np.testing.assert_array_equal(weight(model, "wd"), before[1])


def test_the_largest_weights_stay_untouched(model):
    before = weight(model, "w2").copy()
    prune(model, [parse_spec("weight=0.5,only=body")])
    after = weight(model, "w2")
    kept = after != 0
    np.testing.assert_array_equal(after[kept], before[kept])
    assert np.abs(before[~kept]).max() <= np.abs(before[kept]).min()


def test_two_of_four(model):
    prune(model, [parse_spec("2:4")])
    fours = weight(model, "w3").reshape(10, -1, 4)
    assert ((fours != 0).sum(-1) == 2).all()


def test_globs_match_nodes_and_weights(model):
    report = prune(model, [parse_spec("weight=0.5,only=w3,only=bo*,exclude=head*")])
    assert report.pruned == ["w2"]


@pytest.mark.parametrize("option", ["only", "exclude"])
def test_a_glob_that_matches_nothing_is_an_error(model, option):
    with pytest.raises(OptionError, match=rf"{option}=nose\*: matches no layer.*stem, body"):
        prune(model, [parse_spec(f"weight=0.5,{option}=nose*")])


def test_specs_apply_in_order(model):
    report = prune(model, [parse_spec("weight=0.5,only=head*"), parse_spec("block4=0.25,exclude=head*")])
    assert (weight(model, "w3") == 0).mean() == 0.5
    assert (weight(model, "w2") == 0).mean() == 0.25
    assert [row.granularity for row in report.layers if not row.skipped] == ["weight", "block4"]


def test_a_shared_weight_is_pruned_once():
    model = shared_net(np.random.default_rng(1))
    report = prune(model, [parse_spec("weight=0.5,only=w")])
    assert [row.weight for row in report.layers] == ["w"]
    assert (weight(model, "w") == 0).mean() == 0.5
    excluded = prune(model, [parse_spec("weight=0.9,exclude=second")])
    assert excluded.pruned == ["v"]


def test_clones_keep_their_weights(model):
    copy = graph.clone(model)
    prune(copy, [parse_spec("weight=0.9")])
    assert (weight(model, "w2") != 0).all()
    x = np.random.default_rng(2).normal(size=(2, 3, 16, 16)).astype(np.float32)
    assert np.isfinite(make_run(copy)({"x": x})["y"]).all()


def test_zero_fraction_changes_nothing(model):
    before = weight(model, "w2").copy()
    prune(model, [parse_spec("weight=0")])
    np.testing.assert_array_equal(weight(model, "w2"), before)


def test_nan_weights_are_refused(model):
    value = model.graph.initializers["w2"]
    bad = graph.constant(value).copy()
    bad[0, 0, 0, 0] = np.nan
    graph.set_initializer(model, value, bad)
    with pytest.raises(ModelError, match="'w2' holds NaN"):
        prune(model, [parse_spec("weight=0.5")])


@pytest.mark.parametrize("name", [name for name, entry in CRITERIA.items() if entry.weights is not None])
@pytest.mark.parametrize("what", ["weight=0.5", "block4=0.5", "1:4"])
def test_every_criterion_of_weights_with_every_granularity(model, name, what):
    data = {"x": np.random.default_rng(3).normal(size=(16, 3, 16, 16)).astype(np.float32)}
    spec = parse_spec(f"{what},criterion={name}")
    if spec.needs:
        with pytest.raises(DataError, match=f"criterion '{name}' needs calibration data"):
            prune(model, [spec])
    prune(model, [spec], data, make_run=make_run)
    zeros = weight(model, "w2") == 0
    if what == "1:4":
        assert zeros.mean() == 0.75
    else:
        total = sum((weight(model, f"w{i}") == 0).mean() for i in (2, 3))
        assert 0.1 < total < 1.9 and 0 < zeros.mean() < 1
