"""ResNet-50, MobileNetV2 and an MLP as float ONNX with drawn weights: speed needs no trained ones.

    python bench/models/random_networks.py resnet50|mobilenet_v2|mlp|tiny --out DIR

writes DIR/<name>.onnx (float32, input ``input`` [N, 3, 224, 224], of the MLP [N, 1024]; output ``logits``
[N, 1000]) and DIR/<name>_calibration.npz (``input``: pictures of smooth noise). Weights are drawn as He et
al. 2015 (arXiv 1502.01852, section 2.2) start a training; batch normalization gets the statistics that the
network itself shows on a few pictures, so that no layer is saturated or dead.

Architectures: He et al. 2015 (arXiv 1512.03385) with the stride on the 3x3 convolution; Sandler et al. 2018
(arXiv 1801.04381). `tiny` has a layer of each kind, for tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import pyruntime as prt

Array = npt.NDArray[np.float32]

CLASSES = 1000
# blocks, channels inside, stride; four times as many channels come out
RESNET_50 = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
# expansion, output channels, blocks, stride
MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)),
    (6, 320, 1, 1),
)
MLP = (1024, 4096, 4096, 1000)
STATISTICS_PICTURES = 4
CALIBRATION_PICTURES = 16


class Tracer:
    """Appends nodes in order and computes their outputs on a sample, which the statistics come from."""

    def __init__(self, sample: Array, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.input_shape = ["N", *sample.shape[1:]]
        self._values = {"input": sample}
        self._rng = np.random.default_rng(seed)

    def constant(self, name: str, array: Array) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        self.initializers.append(tensor)
        return tensor

    def node(
        self, op: str, name: str, inputs: list[str], constants: tuple[Array, ...] = (), **attributes: Any
    ) -> str:
        """A node `name` with further constant inputs; its output has the same name."""
        tensors = [self.constant(f"{name}.{i}", array) for i, array in enumerate(constants)]
        names = [*inputs, *(tensor.name for tensor in tensors)]
        node = helper.make_node(op, names, [name], name=name, **attributes)
        self.nodes.append(node)
        feed = {x: self._values[x] for x in inputs}
        infos = [helper.make_tensor_value_info(x, TensorProto.FLOAT, list(feed[x].shape)) for x in feed]
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "step", infos, [output], tensors)
        self._values[name] = prt.InferenceSession(prt.compress(_model(graph), "float")).run(None, feed)[0]
        return name

    def conv(
        self, x: str, name: str, channels: int, kernel: int, stride: int = 1, *, depthwise: bool = False
    ) -> str:
        """Convolution without bias, then batch normalization with the sample's statistics."""
        groups = self._values[x].shape[1] if depthwise else 1
        shape = (channels, self._values[x].shape[1] // groups, kernel, kernel)
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        y = self.node("Conv", f"{name}.conv", [x], (self._he(shape),), group=groups, **window)
        values = self._values[y].astype(np.float64)
        scale, shift = self._rng.uniform(0.7, 1.3, channels), self._rng.normal(0, 0.2, channels)
        statistics = (values.mean((0, 2, 3)), values.var((0, 2, 3)) + 1e-3)
        constants = tuple(array.astype(np.float32) for array in (scale, shift, *statistics))
        return self.node("BatchNormalization", f"{name}.norm", [y], constants)

    def relu6(self, x: str, name: str) -> str:
        return self.node("Clip", name, [x], (np.float32(0), np.float32(6)))  # type: ignore[arg-type]

    def dense(self, x: str, name: str, outputs: int) -> str:
        weight = self._he((outputs, self._values[x].shape[1]))
        return self.node("Gemm", name, [x], (weight, np.zeros(outputs, np.float32)), transB=1)

    def classify(self, x: str) -> onnx.ModelProto:
        pooled = self.node("Flatten", "flatten", [self.node("GlobalAveragePool", "pool", [x])])
        return self.model(self.dense(pooled, "logits", CLASSES))

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", self._values[output].shape[1]])],
            self.initializers,
        )
        return _model(graph)

    def _he(self, shape: tuple[int, ...]) -> Array:
        deviation = (2 / np.prod(shape[1:])) ** 0.5
        return self._rng.normal(0, deviation, shape).astype(np.float32)


def resnet50(sample: Array) -> onnx.ModelProto:
    t = Tracer(sample)
    x = t.node("Relu", "stem", [t.conv("input", "stem", 64, 7, 2)])
    x = t.node("MaxPool", "stem.pool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, (blocks, channels, first_stride) in enumerate(RESNET_50):
        for block in range(blocks):
            x = _bottleneck(t, x, f"stage{stage}.{block}", channels, first_stride if block == 0 else 1, block)
    return t.classify(x)


def _bottleneck(t: Tracer, x: str, name: str, channels: int, stride: int, block: int) -> str:
    y = t.node("Relu", f"{name}.a", [t.conv(x, f"{name}.a", channels, 1)])
    y = t.node("Relu", f"{name}.b", [t.conv(y, f"{name}.b", channels, 3, stride)])
    y = t.conv(y, f"{name}.c", 4 * channels, 1)
    shortcut = t.conv(x, f"{name}.shortcut", 4 * channels, 1, stride) if block == 0 else x
    return t.node("Relu", name, [t.node("Add", f"{name}.sum", [y, shortcut])])


def mobilenet_v2(sample: Array) -> onnx.ModelProto:
    t = Tracer(sample)
    x, index, channels = t.relu6(t.conv("input", "stem", 32, 3, 2), "stem"), 0, 32
    for expansion, out, blocks, first_stride in MOBILENET_V2:
        for block in range(blocks):
            name, stride = f"block{index}", first_stride if block == 0 else 1
            y = x
            if expansion > 1:
                y = t.relu6(t.conv(y, f"{name}.expand", channels * expansion, 1), f"{name}.expand")
            wide = channels * expansion
            y = t.relu6(t.conv(y, f"{name}.depthwise", wide, 3, stride, depthwise=True), f"{name}.depthwise")
            y = t.conv(y, f"{name}.project", out, 1)
            x = t.node("Add", f"{name}.sum", [y, x]) if stride == 1 and channels == out else y
            index, channels = index + 1, out
    return t.classify(t.relu6(t.conv(x, "head", 1280, 1), "head"))


def mlp(sample: Array) -> onnx.ModelProto:
    t = Tracer(sample)
    x = "input"
    for index, outputs in enumerate(MLP[1:-1]):
        x = t.node("Relu", f"relu{index}", [t.dense(x, f"dense{index}", outputs)])
    return t.model(t.dense(x, "logits", MLP[-1]))


def tiny(sample: Array) -> onnx.ModelProto:
    t = Tracer(sample)
    x = t.node("Relu", "stem", [t.conv("input", "stem", 32, 3, 2)])
    y = t.relu6(t.conv(x, "depthwise", 32, 3, depthwise=True), "depthwise")
    return t.classify(t.node("Add", "sum", [t.conv(y, "project", 32, 1), x]))


def noise(count: int, size: int, channels: int = 3, seed: int = 1) -> Array:
    """Pictures [count, channels, size, size] of noise at several scales, each with mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, channels, size, size), np.float32)
    for cells in (4, 16, size):
        repeat = -(-size // cells)
        coarse = rng.normal(size=(count, channels, cells, cells)).repeat(repeat, 2).repeat(repeat, 3)
        pictures += coarse[:, :, :size, :size].astype(np.float32)
    pictures -= pictures.mean((1, 2, 3), keepdims=True)
    return pictures / pictures.std((1, 2, 3), keepdims=True)


def vectors(count: int, size: int = MLP[0], seed: int = 1) -> Array:
    """Rows [count, size] as a layer after a ReLU gets them."""
    drawn = np.random.default_rng(seed).normal(size=(count, size))
    return np.maximum(drawn, 0).astype(np.float32)


# name: the network for a sample of its input, and samples
NETWORKS: dict[str, tuple[Callable[[Array], onnx.ModelProto], Callable[[int], Array]]] = {
    "resnet50": (resnet50, lambda count: noise(count, 224)),
    "mobilenet_v2": (mobilenet_v2, lambda count: noise(count, 224)),
    "mlp": (mlp, vectors),
    "tiny": (tiny, lambda count: noise(count, 32)),
}


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    build, samples = NETWORKS[arguments.name]
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = build(samples(STATISTICS_PICTURES))
    onnx.checker.check_model(model)
    onnx.save(model, arguments.out / f"{arguments.name}.onnx")
    np.savez(arguments.out / f"{arguments.name}_calibration.npz", input=samples(CALIBRATION_PICTURES))
    print(f"wrote {arguments.name}.onnx and {arguments.name}_calibration.npz to {arguments.out}")


if __name__ == "__main__":
    main()
