"""A cut network must compute what the whole one does, run each node once, and see weights change."""

import numpy as np
import pytest
from toolmodels import make_run, residual_net
from transformer_nets import sentences, tiny_bert

from pyruntime import graph, prefix
from pyruntime.evaluate import observe
from pyruntime.frontends.onnx import load
from pyruntime.layers import find_layers
from pyruntime.prefix import Prefix


def images(count=10):
    return {"x": np.random.default_rng(0).normal(size=(count, 3, 16, 16)).astype(np.float32)}


def whole(model, data, names):
    return [{name: batch[name] for name in names} for batch in observe(model, data, names, batch=4)]


@pytest.mark.parametrize("memory", [1 << 30, 5000, 0])
def test_every_tensor_comes_out_the_same(monkeypatch, memory):
    """Kept in memory, in files, or some here and some there."""
    monkeypatch.setattr(prefix, "MEMORY_BYTES", memory)
    model, data = residual_net(np.random.default_rng(0)), images()
    cut = Prefix(model, data, batch=4)
    for node in graph.topological_nodes(model):
        name = node.outputs[0].name
        cut.advance(node)
        for found, wanted in zip(cut.values([name, "x"]), whole(model, data, [name, "x"]), strict=True):
            np.testing.assert_array_equal(found[name], wanted[name])
            np.testing.assert_array_equal(found["x"], wanted["x"])


def test_each_node_runs_once():
    model = residual_net(np.random.default_rng(0))
    ran = []

    def counting(part):
        ran.extend(node.name for node in part.graph)
        return make_run(part)

    cut = Prefix(model, images(), counting)
    for layer in find_layers(model):
        cut.advance(layer.node)
    assert len(ran) == len(set(ran)) == len(model.graph) - 1  # all but the last layer


def test_weights_behind_the_cut_may_change():
    model, data = residual_net(np.random.default_rng(0)), images()
    cut = Prefix(model, data, batch=4)
    for layer in find_layers(model):
        cut.advance(layer.node)
        graph.set_initializer(model, layer.weight, layer.stored(layer.array() * np.float32(0.5)))
    for found, wanted in zip(cut.values(["y"]), whole(model, data, ["y"]), strict=True):
        np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-6)


def test_the_cut_never_moves_back():
    model, data = residual_net(np.random.default_rng(0)), images()
    _, second, *_, last = graph.topological_nodes(model)
    ran = []

    def counting(part):
        ran.extend(node.name for node in part.graph)
        return make_run(part)

    cut = Prefix(model, data, counting, batch=4)
    cut.advance(last, past=True)
    before = len(ran)
    cut.advance(second)
    wanted = next(iter(observe(model, data, ["y"], make_run, batch=4)))
    np.testing.assert_array_equal(next(cut.values(["y"]))["y"], wanted["y"])
    assert len(ran) == before


def test_memory_is_bounded_and_used_again(monkeypatch):
    monkeypatch.setattr(prefix, "MEMORY_BYTES", 1000)
    batches = prefix._Batches(2)
    small, large = {"a": np.zeros(100, np.float32)}, {"a": np.ones(200, np.float32)}
    batches.put(0, small)
    batches.put(1, large)  # 400 and 800 bytes are too many together
    assert batches._names == {1: ["a"]} and batches._bytes == 400
    batches.put(0, {})
    batches.put(1, large)
    assert batches._names == {} and batches._bytes == 800
    np.testing.assert_array_equal(batches.get(1)["a"], large["a"])


def test_tensors_of_unknown_shape_are_made_again():
    """A program wants the shapes of its inputs."""
    model, data = residual_net(np.random.default_rng(0)), images()
    (unknown,) = (value for node in model.graph for value in node.outputs if value.name == "r2")
    unknown.shape = None
    cut = Prefix(model, data, make_run, batch=4)
    for layer in find_layers(model):
        cut.advance(layer.node)
    wanted = list(observe(model, data, ["y"], make_run, batch=4))
    for found, batch in zip(cut.values(["y"]), wanted, strict=True):
        np.testing.assert_allclose(found["y"], batch["y"], rtol=1e-6)


def test_transformer():
    model, data = load(tiny_bert()), sentences(7, 12)
    (name,) = [value.name for value in model.graph.outputs]
    cut = Prefix(model, data, batch=3)
    for layer in find_layers(model):
        cut.advance(layer.node)
    for found, wanted in zip(cut.values([name]), observe(model, data, [name], batch=3), strict=True):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)
