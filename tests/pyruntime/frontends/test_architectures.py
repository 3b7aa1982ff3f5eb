"""Architectures that ship with the onnx package."""

from __future__ import annotations

import pathlib
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import ops, run

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.graph import to_proto, to_standard

LIGHT = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
LAYERS = {
    "densenet121": {"Conv": 121, "BatchNormalization": 0},
    "inception_v2": {"Conv": 69, "Gemm": 1, "BatchNormalization": 0, "Mul": 0},
    "resnet50": {"Conv": 53, "Gemm": 1, "Add": 16, "BatchNormalization": 0, "Mul": 0},
    "shufflenet": {"Conv": 49, "Gemm": 1, "BatchNormalization": 0},
    "squeezenet": {"Conv": 26},
    "vgg19": {"Conv": 16, "Gemm": 3, "Dropout": 0},
}


def with_random_weights(proto):
    """The light models make their weights of zeros: put random ones in their place."""
    graph, random = proto.graph, np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    variances = {node.input[4] for node in graph.node if node.op_type == "BatchNormalization"}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        array = random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        if node.output[0] in variances:
            array = random.random(shape) * 0.5 + 0.75
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return next(info for info in graph.input if info.name not in shapes)


@pytest.mark.parametrize("name", LAYERS)
def test_convolutional_network(name):
    proto = onnx.load(LIGHT / f"light_{name}.onnx")
    if name == "vgg19":  # 575 MB of weights: structure only
        model = load(proto)
    else:
        info = with_random_weights(proto)
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        feeds = {info.name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
        model = load(proto)
        (wanted,), (found,) = run(proto, feeds), run(to_proto(to_standard(model)), feeds)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    counts = Counter(ops(model))
    assert {op: counts[op] for op in LAYERS[name]} == LAYERS[name]
    assert all(output.shape is not None for node in model.graph for output in node.outputs)


@pytest.mark.parametrize("name", ["bvlc_alexnet", "inception_v1", "zfnet512"])
def test_network_with_local_response_normalization_is_refused(name):
    with pytest.raises(ModelError, match=r"unsupported nodes: LRN \(.*\), LRN \(.*\);"):
        load(LIGHT / f"light_{name}.onnx")
