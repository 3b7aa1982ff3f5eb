"""Small float models for the tests of the tools, and a way to run any model of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

from pyruntime import graph
from pyruntime.frontends.onnx import load


def make_run(model: ir.Model) -> Any:
    """The model in onnxruntime, as a function of a batch; its fused integer kernels may saturate, so none."""
    proto = graph.to_proto(graph.to_standard(model)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda batch: dict(zip(names, session.run(None, dict(batch)), strict=True))


def build(
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, list[Any]],
    outputs: Mapping[str, list[Any]],
) -> ir.Model:
    """Canonical model of the nodes."""
    info = helper.make_tensor_value_info
    proto = helper.make_graph(
        nodes,
        "test",
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return load(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def he(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random weight that keeps the size of a signal."""
    return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def residual_net(rng: np.random.Generator, channels: int = 8) -> ir.Model:
    """Two convolutions with a residual sum, pooling, concat, a depthwise convolution, and a dense layer."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        node("Clip", ["c1", "zero", "six"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], name="body", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["sum"]),
        node("Relu", ["sum"], ["r2"]),
        node("MaxPool", ["r2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pooled", "wd"], ["d"], name="depthwise", pads=[1, 1, 1, 1], group=channels),
        node("Relu", ["d"], ["r3"]),
        node("Concat", ["pooled", "r3"], ["both"], axis=1),
        node("GlobalAveragePool", ["both"], ["mean"]),
        node("Flatten", ["mean"], ["features"]),
        node("Gemm", ["features", "w3", "b3"], ["y"], name="head", transB=1),
    ]
    weights = {
        "w1": he(rng, channels, 3, 3, 3),
        "b1": rng.normal(size=channels).astype(np.float32) * 0.1,
        "w2": he(rng, channels, channels, 3, 3),
        "b2": rng.normal(size=channels).astype(np.float32) * 0.1,
        "wd": he(rng, channels, 1, 3, 3),
        "w3": he(rng, 10, 2 * channels),
        "b3": rng.normal(size=10).astype(np.float32),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    weights = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    return build(nodes, weights, {"x": ["N", 3, 16, 16]}, {"y": ["N", 10]})


def shared_net(rng: np.random.Generator) -> ir.Model:
    """Two convolutions that share weight and bias; a value in between is called like the bias."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["b0"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["b0"], ["r"]),
        node("Conv", ["r", "w", "b"], ["y0"], name="second", pads=[1, 1, 1, 1]),
        node("Conv", ["y0", "v"], ["y"], name="third"),
    ]
    weights = {"w": he(rng, 4, 4, 3, 3), "b": he(rng, 4), "v": he(rng, 4, 4, 1, 1)}
    return build(nodes, weights, {"x": ["N", 4, 8, 8]}, {"y": ["N", 4, 8, 8]})


def sqnr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Signal to noise, decibels."""
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - candidate).sum()))
