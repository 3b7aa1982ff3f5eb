"""What a layer is to make of what it reads."""

import numpy as np
import pytest
from onnx import helper
from toolmodels import build, he, make_run

from pyruntime import graph
from pyruntime.layers import find_layers
from pyruntime.prefix import Prefix
from pyruntime.recover.common import own_layers, summed_with
from pyruntime.recover.sums import Sums, inputs_and_targets


def residual_pair():
    """A float network `y = b(a(x)) + a(x)`, the same with other weights in `a`, and data."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["s"], name="a"),
        helper.make_node("Conv", ["s", "wb"], ["b0"], name="b"),
        helper.make_node("Add", ["b0", "s"], ["y"]),
    ]
    weights = {"wa": he(rng, 4, 3, 1, 1), "wb": he(rng, 4, 4, 1, 1)}
    reference = build(nodes, weights, {"x": ["N", 3, 5, 5]}, {"y": ["N", 4, 5, 5]})
    model = graph.clone(reference)
    (first, _) = find_layers(model)
    graph.set_initializer(model, first.weight, first.stored(first.array() * np.float32(0.8)))
    return reference, model, {"x": rng.normal(size=(6, 3, 5, 5)).astype(np.float32)}


def test_a_layer_makes_up_for_the_error_of_what_it_is_summed_with():
    reference, model, data = residual_pair()
    order = {node: index for index, node in enumerate(graph.topological_nodes(model))}
    layer, original = own_layers(model)["b"], own_layers(reference)["b"]
    partner = summed_with(layer, order)
    assert partner == "s"
    now, then = Prefix(model, data, make_run, batch=6), Prefix(reference, data, make_run, batch=6)
    ((x, target),) = inputs_and_targets(layer, original, partner, now, then)
    s = x  # b reads s, as it became
    np.testing.assert_allclose(target + s, make_run(reference)(data)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_outputs", [False, True])
def test_moments(with_outputs):
    rng = np.random.default_rng(1)
    x, y = rng.normal(1, 2, (50, 3)), rng.normal(-1, 1, (50, 2))
    sums = Sums()
    for part in (slice(0, 20), slice(20, 50)):
        sums.update(x[part], y[part] if with_outputs else None)
    both = np.cov(x.T, y.T, bias=True)
    xx, yx = sums.moments()
    np.testing.assert_allclose(xx, both[:3, :3])
    if not with_outputs:
        assert yx is None
        return
    np.testing.assert_allclose(yx, both[3:, :3])
    np.testing.assert_allclose(sums.moments(centred=False)[1], y.T @ x / 50)
    np.testing.assert_allclose(np.concatenate(sums.means()), [*x.mean(0), *y.mean(0)])
