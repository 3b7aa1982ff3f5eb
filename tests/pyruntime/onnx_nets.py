"""Builds small ONNX networks, with or without Q/DQ, and runs them as ONNX defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray


class Net:
    """Every method appends nodes and returns the name of the resulting value."""

    def __init__(self, seed: int = 0, signed: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.kind: Any = np.int8 if signed else np.uint8
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def name(self, base: str) -> str:
        return f"{base}{len(self.nodes)}_{len(self.initializers)}"

    def input(self, shape: list[Any], name: str = "x", kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, kind: int = TensorProto.FLOAT) -> None:
        self.outputs.append(helper.make_tensor_value_info(value, kind, None))

    def constant(self, array: Array, base: str = "c") -> str:
        name = self.name(base)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [self.name(op.lower()) + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=f"{op}_{len(self.nodes)}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def q(self, value: str, scale: float, zero_point: int) -> str:
        """QuantizeLinear alone; zero_point is given as for u8."""
        zero_point -= 128 if self.kind is np.int8 else 0
        s, z = self.constant(np.float32(scale)), self.constant(self.kind(zero_point))
        return str(self.op("QuantizeLinear", value, s, z))

    def dq(self, value: str, scale: float, zero_point: int) -> str:
        zero_point -= 128 if self.kind is np.int8 else 0
        s, z = self.constant(np.float32(scale)), self.constant(self.kind(zero_point))
        return str(self.op("DequantizeLinear", value, s, z))

    def qdq(self, value: str, scale: float, zero_point: int) -> str:
        return self.dq(self.q(value, scale, zero_point), scale, zero_point)

    def weight(self, shape: tuple[int, ...], axis: int = 0, scale: float = 0.01, dq: bool = True) -> str:
        """A s8 weight behind a per-channel DQ (or the float weight it stands for)."""
        integers = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = (scale * self.rng.uniform(0.5, 1.5, shape[axis])).astype(np.float32)
        if not dq:
            view = [1] * len(shape)
            view[axis] = -1
            return self.constant(integers.astype(np.float32) * scales.reshape(view), "w")
        zeros = np.zeros(shape[axis], np.int8)
        names = [self.constant(integers, "w"), self.constant(scales), self.constant(zeros)]
        return str(self.op("DequantizeLinear", *names, axis=axis))

    def bias(self, size: int, scale: float = 1.0) -> str:
        return self.constant((self.rng.standard_normal(size) * scale).astype(np.float32), "b")

    def conv(
        self,
        x: str,
        channels: int,
        outputs: int,
        kernel: int = 3,
        dq: bool = True,
        group: int = 1,
        **more: Any,
    ) -> str:
        fan_in = channels // group * kernel * kernel
        w = self.weight((outputs, channels // group, kernel, kernel), scale=0.02 / fan_in**0.5, dq=dq)
        pad = kernel // 2
        more.setdefault("pads", [pad] * 4)
        return str(self.op("Conv", x, w, self.bias(outputs, 0.3), group=group, **more))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        return model


def run_onnx(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """Outputs by definition: no fusion, no optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Array] = session.run(None, feeds)
    return results
