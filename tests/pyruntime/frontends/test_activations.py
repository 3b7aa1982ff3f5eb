"""Every usual spelling of an activation becomes one node; near misses stay as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_same, model_of, ops


def make(*args, **kwargs):
    return helper.make_node(*args, **kwargs)


def scalar(value):
    return np.asarray(value, np.float32)


ERF = [make("Div", ["x", "root2"], ["a"]), make("Erf", ["a"], ["e"]), make("Add", ["e", "one"], ["g"])]
TANH_INNER = [
    make("Mul", ["x", "x"], ["x2"]),
    make("Mul", ["x2", "x"], ["x3"]),
    make("Mul", ["x3", "c"], ["t"]),
    make("Add", ["x", "t"], ["u"]),
    make("Mul", ["u", "k"], ["v"]),
]
TANH_POW = [make("Pow", ["x", "three"], ["x3"]), *TANH_INNER[2:]]
TANH_FACTORED = [
    make("Mul", ["x", "x"], ["x2"]),
    make("Mul", ["x2", "c"], ["t"]),
    make("Add", ["one", "t"], ["u"]),
    make("Mul", ["x", "k"], ["w"]),
    make("Mul", ["w", "u"], ["v"]),
]
TANH_OUTER = [make("Tanh", ["v"], ["h"]), make("Add", ["h", "one"], ["g"])]
HALF_FIRST = [make("Mul", ["x", "half"], ["m"]), make("Mul", ["m", "g"], ["y"])]
HALF_LAST = [make("Mul", ["x", "g"], ["m"]), make("Mul", ["half", "m"], ["y"])]
HALF_ON_GATE = [make("Mul", ["g", "half"], ["m"]), make("Mul", ["m", "x"], ["y"])]
SHIFTED = [make("Add", ["x", "three"], ["a"]), make("Clip", ["a", "zero", "six"], ["b"])]

SPELLINGS = {
    "silu": ([make("Sigmoid", ["x"], ["s"]), make("Mul", ["s", "x"], ["y"])], ["Silu"]),
    "silu by exp": (
        [
            make("Neg", ["x"], ["n"]),
            make("Exp", ["n"], ["e"]),
            make("Add", ["e", "one"], ["d"]),
            make("Div", ["x", "d"], ["y"]),
        ],
        ["Silu"],
    ),
    "hard swish by HardSigmoid": (
        [make("HardSigmoid", ["x"], ["s"], alpha=1 / 6, beta=0.5), make("Mul", ["x", "s"], ["y"])],
        ["HardSwish"],
    ),
    "hard swish, divide last": (
        [*SHIFTED, make("Mul", ["x", "b"], ["m"]), make("Div", ["m", "six"], ["y"])],
        ["HardSwish"],
    ),
    "hard swish, divide gate": (
        [*SHIFTED, make("Div", ["b", "six"], ["m"]), make("Mul", ["x", "m"], ["y"])],
        ["HardSwish"],
    ),
    "hard swish, multiply by 1/6": (
        [*SHIFTED, make("Mul", ["b", "sixth"], ["m"]), make("Mul", ["m", "x"], ["y"])],
        ["HardSwish"],
    ),
    "hard sigmoid": ([*SHIFTED, make("Div", ["b", "six"], ["y"])], ["HardSigmoid"]),
    "gelu erf, half first": ([*ERF, *HALF_FIRST], ["Gelu"]),
    "gelu erf, half last": ([*ERF, *HALF_LAST], ["Gelu"]),
    "gelu erf, half on gate": ([*ERF, *HALF_ON_GATE], ["Gelu"]),
    "gelu erf, multiplied": ([make("Mul", ["x", "root_half"], ["a"]), *ERF[1:], *HALF_LAST], ["Gelu"]),
    "gelu tanh": ([*TANH_INNER, *TANH_OUTER, *HALF_FIRST], ["Gelu"]),
    "gelu tanh by Pow": ([*TANH_POW, *TANH_OUTER, *HALF_LAST], ["Gelu"]),
    "gelu tanh factored": ([*TANH_FACTORED, *TANH_OUTER, *HALF_ON_GATE], ["Gelu"]),
    "relu6 is a clip": ([make("Clip", ["x", "zero", "six"], ["y"])], ["Clip"]),
    "not quite: clip at 5": (
        [
            make("Add", ["x", "three"], ["a"]),
            make("Clip", ["a", "zero", "five"], ["b"]),
            make("Mul", ["x", "b"], ["m"]),
            make("Div", ["m", "six"], ["y"]),
        ],
        ["Add", "Clip", "Mul", "Div"],
    ),
    "not quite: scaled gate": (
        [make("Mul", ["x", "scale"], ["a"]), make("Sigmoid", ["a"], ["s"]), make("Mul", ["s", "x"], ["y"])],
        ["Mul", "Sigmoid", "Mul"],
    ),
    "not quite: two tensors": (
        [make("Sigmoid", ["x"], ["s"]), make("Tanh", ["x"], ["t"]), make("Mul", ["s", "t"], ["y"])],
        ["Sigmoid", "Tanh", "Mul"],
    ),
}
CONSTANTS = {
    "one": scalar(1),
    "half": scalar(0.5),
    "zero": scalar(0),
    "three": scalar(3),
    "five": scalar(5),
    "six": scalar(6),
    "sixth": scalar(1 / 6),
    "root2": scalar(math.sqrt(2)),
    "root_half": scalar(math.sqrt(0.5)),
    "c": scalar(0.044715),
    "k": scalar(math.sqrt(2 / math.pi)),
    "scale": scalar(1.702),
}


def network(nodes):
    used = {name for node in nodes for name in node.input}
    constants = {name: array for name, array in CONSTANTS.items() if name in used}
    return model_of(nodes, {"x": ("N", 300)}, ["y"], constants, opset=14)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spelling(spelling):
    nodes, expected = SPELLINGS[spelling]
    x = {"x": np.linspace(-9, 9, 600, dtype=np.float32).reshape(2, 300)}
    assert ops(assert_same(network(nodes), x)) == expected


def test_gelu_form_is_told_apart():
    for name, approximate in (("gelu erf, half last", "none"), ("gelu tanh", "tanh")):
        (node,) = assert_same(network(SPELLINGS[name][0]), {"x": np.ones((1, 300), np.float32)}).graph
        assert node.attributes["approximate"].as_string() == approximate


def test_an_intermediate_value_read_elsewhere_survives():
    nodes = [make("Sigmoid", ["x"], ["s"]), make("Mul", ["s", "x"], ["m"]), make("Add", ["m", "s"], ["y"])]
    model = assert_same(network(nodes), {"x": np.ones((1, 300), np.float32)})
    assert sorted(ops(model)) == ["Add", "Sigmoid", "Silu"]


def test_squeeze_and_excite_gate_is_not_an_activation():
    nodes = [
        make("GlobalAveragePool", ["x"], ["p"]),
        make("Sigmoid", ["p"], ["s"]),
        make("Mul", ["x", "s"], ["y"]),
    ]
    model = assert_same(model_of(nodes, {"x": (1, 3, 4, 4)}, ["y"]), {"x": np.ones((1, 3, 4, 4), np.float32)})
    assert ops(model) == ["GlobalAveragePool", "Sigmoid", "Mul"]
