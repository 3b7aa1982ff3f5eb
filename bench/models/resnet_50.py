"""ResNet-50 (He et al. 2015, table 1, stride in the 3x3 convolution) with random He weights, as ONNX.

No batch norm: the last convolution of each block is scaled down, so that the sums keep the size of a signal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels inside a block, blocks
EXPANSION = 4
BLOCK_GAIN = 0.3  # of the last convolution of a block


class _Graph:
    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def emit(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, shape: tuple[int, ...], gain: float) -> list[str]:
        deviation = gain * np.sqrt(2 / np.prod(shape[1:]))
        kernel: npt.NDArray[Any] = self.generator.standard_normal(shape, np.float32) * np.float32(deviation)
        bias = np.zeros(shape[0], np.float32)
        self.weights += [
            numpy_helper.from_array(kernel, f"{name}.w"),
            numpy_helper.from_array(bias, f"{name}.b"),
        ]
        return [f"{name}.w", f"{name}.b"]

    def conv(
        self, name: str, x: str, out: int, channels: int, kernel: int, stride: int, gain: float = 1.0
    ) -> str:
        parameters = self.weight(name, (out, channels, kernel, kernel), gain)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.emit("Conv", name, x, *parameters, pads=pads, strides=strides, kernel_shape=[kernel] * 2)

    def block(self, name: str, x: str, channels: int, middle: int, stride: int) -> str:
        out = middle * EXPANSION
        y = self.emit("Relu", f"{name}.relu1", self.conv(f"{name}.conv1", x, middle, channels, 1, 1))
        y = self.emit("Relu", f"{name}.relu2", self.conv(f"{name}.conv2", y, middle, middle, 3, stride))
        y = self.conv(f"{name}.conv3", y, out, middle, 1, 1, BLOCK_GAIN)
        if channels != out:
            x = self.conv(f"{name}.shortcut", x, out, channels, 1, stride, 0.5**0.5)
        return self.emit("Relu", name, self.emit("Add", f"{name}.sum", y, x))


def build(size: int = 224, classes: int = 1000, seed: int = 0) -> onnx.ModelProto:
    """`input` f32 [N, 3, size, size] -> `logits` f32 [N, classes]."""
    graph = _Graph(seed)
    x = graph.emit("Relu", "stem.relu", graph.conv("stem", "input", 64, 3, 7, 2))
    x = graph.emit("MaxPool", "stem.pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (middle, blocks) in enumerate(STAGES):
        for index in range(blocks):
            stride = 2 if stage > 0 and index == 0 else 1
            x = graph.block(f"stage{stage + 1}.{index}", x, channels, middle, stride)
            channels = middle * EXPANSION
    x = graph.emit("Flatten", "features", graph.emit("GlobalAveragePool", "pool", x))
    graph.emit("Gemm", "logits", x, *graph.weight("fc", (classes, channels), 1.0), transB=1)
    info = helper.make_tensor_value_info
    proto = helper.make_graph(
        graph.nodes,
        "resnet_50",
        [info("input", TensorProto.FLOAT, ["N", 3, size, size])],
        [info("logits", TensorProto.FLOAT, ["N", classes])],
        graph.weights,
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def images(count: int, size: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random pictures f32 [count, 3, size, size] with neighbours alike: noise on several scales."""
    generator = np.random.default_rng(seed)
    found = np.zeros((count, 3, size, size), np.float32)
    for scale in (1, 4, 16):
        cells = -(-size // scale)
        noise = generator.standard_normal((count, 3, cells, cells), np.float32)
        found += noise.repeat(scale, axis=2).repeat(scale, axis=3)[:, :, :size, :size]
    return found
