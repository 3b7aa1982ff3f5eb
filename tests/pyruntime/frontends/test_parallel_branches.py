"""Parallel linear branches become one Conv that computes what they did."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import ops, run

from pyruntime.frontends.onnx import load
from pyruntime.graph import to_proto, to_standard

RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (2, 8, 9, 11)).astype(np.float32)


class Branches:
    """Builds y = the sum of branches of x."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def conv(
        self,
        name: str,
        size,
        pads,
        outputs: int = 8,
        group: int = 1,
        bias: bool = True,
        x: str = "x",
        **settings,
    ):
        self.constants[f"{name}_w"] = RNG.normal(0, 1, (outputs, 8 // group, *size)).astype(np.float32)
        inputs = [x, f"{name}_w"]
        if bias:
            self.constants[f"{name}_b"] = RNG.normal(0, 1, outputs).astype(np.float32)
            inputs.append(f"{name}_b")
        settings.setdefault("strides", [1, 1])
        self.nodes.append(helper.make_node("Conv", inputs, [name], name, pads=pads, group=group, **settings))
        return name

    def norm(self, name) -> str:
        values = {p: RNG.uniform(0.5, 2, 8).astype(np.float32) for p in ("scale", "shift", "mean", "var")}
        self.constants.update({f"{name}_{key}": value for key, value in values.items()})
        inputs = ["x", *(f"{name}_{key}" for key in values)]
        self.nodes.append(helper.make_node("BatchNormalization", inputs, [name], name))
        return name

    def sum(self, *names: str) -> onnx.ModelProto:
        total = names[0]
        for i, name in enumerate(names[1:]):
            self.nodes.append(helper.make_node("Add", [name, total], [f"sum{i}"], f"add{i}"))
            total = f"sum{i}"
        self.nodes.append(helper.make_node("Relu", [total], ["y"], "relu"))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ("N", *X.shape[1:]))],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def check(proto: onnx.ModelProto, expected: list[str]) -> None:
    model = load(proto)
    assert ops(model) == expected
    (found,), (wanted,) = run(to_proto(to_standard(model)), {"x": X}), run(proto, {"x": X})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", [1, 2, 8])
def test_training_form_of_repvgg(group: int) -> None:
    b = Branches()
    names = b.conv("a", (3, 3), [1] * 4, group=group), b.conv("b", (1, 1), [0] * 4, group=group), b.norm("c")
    check(b.sum(*names), ["Conv", "Relu"])


def test_many_branches_in_any_order() -> None:
    b = Branches()
    names = [b.norm("n"), b.conv("p", (1, 1), [0] * 4, bias=False)]
    names += [b.conv(f"c{i}", (3, 3), [1] * 4, bias=bool(i % 2)) for i in range(3)]
    check(b.sum(*names), ["Conv", "Relu"])


def test_strides_dilations_and_uneven_pads() -> None:
    b = Branches()
    names = b.conv("a", (5, 3), [2, 1, 2, 1], strides=[2, 2]), b.conv("b", (1, 1), [0] * 4, strides=[2, 2])
    check(b.sum(*names), ["Conv", "Relu"])
    b = Branches()
    names = b.conv("a", (3, 3), [2] * 4, dilations=[2, 2]), b.conv("b", (1, 1), [0] * 4)
    check(b.sum(*names), ["Conv", "Relu"])
    b = Branches()
    names = b.conv("a", (5, 5), [2] * 4), b.conv("b", (3, 1), [1, 0, 1, 0]), b.conv("c", (3, 3), [0, 2, 2, 0])
    check(b.sum(*names), ["Conv", "Relu"])


def test_what_is_not_one_convolution() -> None:
    b = Branches()  # a tap between those of the dilated kernel
    names = b.conv("a", (3, 3), [2] * 4, dilations=[2, 2]), b.conv("b", (3, 3), [1] * 4)
    check(b.sum(*names), ["Conv", "Conv", "Add", "Relu"])
    b = Branches()  # rows that the first kernel does not reach
    names = b.conv("a", (3, 3), [1] * 4), b.conv("b", (3, 3), [0, 1, 2, 1])
    check(b.sum(*names), ["Conv", "Conv", "Add", "Relu"])
    b = Branches()  # of another input
    names = b.conv("a", (3, 3), [1] * 4), b.conv("c", (1, 1), [0] * 4, x=b.conv("b", (3, 3), [1] * 4))
    check(b.sum(*names), ["Conv", "Conv", "Conv", "Add", "Relu"])
    b = Branches()  # other groups
    names = b.conv("a", (3, 3), [1] * 4), b.conv("b", (3, 3), [1] * 4, group=4)
    check(b.sum(*names), ["Conv", "Conv", "Add", "Relu"])
    b = Branches()  # one branch is wide, the other is added to all of its channels
    names = b.conv("a", (3, 3), [1] * 4), b.conv("b", (1, 1), [0] * 4, outputs=1)
    check(b.sum(*names), ["Conv", "Conv", "Add", "Relu"])
    b = Branches()  # read by another node, too
    first = b.conv("a", (3, 3), [1] * 4)
    check(b.sum(first, b.conv("b", (1, 1), [0] * 4), first), ["Conv", "Conv", "Add", "Add", "Relu"])
