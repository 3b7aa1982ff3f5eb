"""Every rule against central differences of the network itself."""

import numpy as np
import pytest
from channel_nets import ChannelNet
from toolmodels import make_run

from pyruntime import graph
from pyruntime.errors import ModelError
from pyruntime.evaluate import observe
from pyruntime.gradient import differentiate, tensors
from pyruntime.gradient.rules import RULES


def image(net, channels=4, size=6):
    return net.input([2, channels, size, size])


def ints(net, *values):
    return net.constant(np.array(values, np.int64))


def floats(net, *shape):
    return net.constant(net.rng.uniform(0.5, 1.5, shape).astype(np.float32))


CASES = {
    "conv": lambda net, x: net.filters(x, 4, 6, 3),
    "strided": lambda net, x: net.filters(x, 4, 6, 3, strides=[2, 1], pads=[1, 0, 0, 2]),
    "dilated groups": lambda net, x: net.filters(x, 4, 6, 3, group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
    "depthwise": lambda net, x: net.filters(x, 4, 8, 3, group=4),
    "dense": lambda net, x: net.dense(net.op("Flatten", x), 144, 5),
    "tokens": lambda net, x: net.tokens(net.reshape(x, 2, 4, 36), 36, 3),
    "products": lambda net, x: net.op("MatMul", x, net.op("Transpose", x, perm=[0, 1, 3, 2])),
    "sums": lambda net, x: net.op("Sub", net.op("Add", x, floats(net, 4, 1, 1)), net.op("Mul", x, x)),
    "broadcast": lambda net, x: net.op("Mul", x, net.op("Sigmoid", net.op("GlobalAveragePool", x))),
    "quotient": lambda net, x: net.op("Div", x, net.op("Add", net.op("Exp", x), floats(net, 1))),
    "prelu": lambda net, x: net.op("PRelu", x, floats(net, 4, 1, 1)),
    "clip": lambda net, x: net.op("Clip", x, net.constant(np.float32(-1)), net.constant(np.float32(1))),
    "max pool": lambda net, x: net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool": lambda net, x: net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "padded average": lambda net, x: net.op(
        "AveragePool", x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0], count_include_pad=1
    ),
    "global max": lambda net, x: net.op("GlobalMaxPool", x),
    "mean": lambda net, x: net.op("ReduceMean", x, ints(net, 1, 3), keepdims=0),
    "softmax": lambda net, x: net.op("Softmax", x, axis=1),
    "layer norm": lambda net, x: net.op("LayerNormalization", x, floats(net, 6), floats(net, 6), axis=-1),
    "concat": lambda net, x: net.op("Concat", x, net.op("Relu", x), x, axis=1),
    "split": lambda net, x: net.op("Mul", *net.op("Split", x, axis=1, num_outputs=2, outputs=2)),
    "slice": lambda net, x: net.op(
        "Slice", x, ints(net, 3, 0), ints(net, 0, 9), ints(net, 1, 2), ints(net, -1, 2)
    ),
    "pad": lambda net, x: net.op("Pad", x, ints(net, 0, 1, 0, 0, 0, 0, 2, 1), net.constant(np.float32(3))),
    "squeeze": lambda net, x: net.op("Squeeze", net.op("Unsqueeze", x, ints(net, 1)), ints(net, 1)),
    "leaky": lambda net, x: net.op("LeakyRelu", x, alpha=0.2),
    "gelu": lambda net, x: net.op("Gelu", x, approximate="tanh"),
}
UNARY = ["Relu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Exp", "Erf", "Abs", "Identity"]
CASES |= {name: lambda net, x, name=name: net.op(name, x) for name in UNARY}
CASES["Sqrt"] = lambda net, x: net.op("Sqrt", net.op("Exp", x))
CASES["Silu"] = lambda net, x: net.op("Mul", x, net.op("Sigmoid", x))


def gradient_of_input(model, x, seed):
    (values,) = observe(model, {"x": x}, tensors(model), make_run)
    found = np.zeros_like(x)
    for step in differentiate(model, values, {model.graph.outputs[0].name: seed}):
        for value, part in zip(step.node.inputs, step.inputs, strict=False):
            if value is not None and value.name == "x" and part is not None:
                found = found + part
    return found


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    net = ChannelNet(len(name))
    x = image(net)
    model = net.finish(net.op("Relu", CASES[name](net, net.op("Add", x, x))))
    rng = np.random.default_rng(0)
    point = rng.normal(size=(2, 4, 6, 6)).astype(np.float32)
    run, y = make_run(model), model.graph.outputs[0].name
    seed = rng.normal(size=run({"x": point})[y].shape).astype(np.float32)
    gradient = gradient_of_input(model, point, seed)
    for _ in range(4):
        direction = rng.choice([-1.0, 1.0], size=point.shape)
        h = 1e-3
        ends = [run({"x": (point + sign * h * direction).astype(np.float32)})[y] for sign in (1, -1)]
        slope = ((ends[0].astype(np.float64) - ends[1]) * seed).sum() / (2 * h)
        wanted = float((gradient * direction).sum())
        size = np.abs(gradient).sum() + 1
        assert abs(slope - wanted) < 0.02 * size, (slope, wanted)


def test_every_rule_is_tried():
    tried = set()
    for make in CASES.values():
        net = ChannelNet(0)
        model = net.finish(net.op("Relu", make(net, net.op("Add", image(net), "x"))))
        tried |= {node.op_type for node in model.graph}
    assert set(RULES) - tried <= {"Cast", "Identity"}


def test_an_unknown_operator_is_named():
    net = ChannelNet(0)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    model = net.finish(net.op("Resize", image(net), "", scales, mode="nearest"))
    with pytest.raises(ModelError, match=r"Resize \(Resize_0\): has no derivative"):
        gradient_of_input(model, np.zeros((2, 4, 6, 6), np.float32), np.ones((2, 4, 12, 12), np.float32))
    assert "Resize" not in RULES and graph.label(model.graph[0]) == "Resize (Resize_0)"
