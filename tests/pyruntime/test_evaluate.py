import numpy as np
import pytest
from onnx import helper
from toolmodels import build, residual_net

from pyruntime import evaluate, graph
from pyruntime.errors import ModelError


@pytest.fixture
def net():
    return residual_net(np.random.default_rng(0))


def images(count):
    return {"x": np.random.default_rng(1).normal(size=(count, 3, 16, 16)).astype(np.float32)}


def test_any_batch_size_gives_the_same_values(net):
    data = images(10)
    (whole,) = evaluate.observe(net, data, ["x", "y"], batch=10)
    parts = list(evaluate.observe(net, data, ["x", "y"], batch=3))
    assert [len(part["y"]) for part in parts] == [3, 3, 3, 1]
    for name in ("x", "y"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_batches_shrink_with_the_size_of_all_tensors(net):
    assert evaluate.batch_size(net, images(2)) == evaluate.SMALL_BATCH
    each = evaluate.sample_bytes(net, images(2))
    outputs = [output for node in net.graph for output in node.outputs]
    assert each == 4 * sum(int(np.prod(graph.dims(output)[1:])) for output in outputs)


def test_one_sample_at_a_time_where_images_are_large():
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    shapes = {"x": ["N", 1, "H", "W"]}, {"y": ["N", 8, "H", "W"]}
    net = build(nodes, {"w": np.ones((8, 1, 1, 1), np.float32)}, *shapes)
    data = {"x": np.zeros((2, 1, 3000, 4000), np.float32)}
    assert evaluate.sample_bytes(net, data) == 4 * 2 * 8 * 3000 * 4000
    assert evaluate.batch_size(net, data) == 1


def test_a_batch_of_fixed_size_is_kept_and_a_rest_left_out(net):
    for value in net.graph.inputs:
        value.shape = type(value.shape)([4, 3, 16, 16])
    assert [len(part["x"]) for part in evaluate.observe(net, images(10), ["x"])] == [4, 4]


def test_unknown_tensor(net):
    with pytest.raises(ModelError, match="'nothing': no node of the model makes it"):
        list(evaluate.observe(net, images(1), ["nothing"]))
