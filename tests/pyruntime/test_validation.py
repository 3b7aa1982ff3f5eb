from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from programs import conv_program

from pyruntime.errors import FileFormatError
from pyruntime.program import Constant, Node, Program, Value
from pyruntime.validation import validate


def _set(key: str, value: object) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        program.nodes[0].attributes[key] = value

    return change


def _constant(name: str, array: np.ndarray) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        program.constants[name] = Constant(name, array)

    return change


def _value(name: str, **fields: object) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        for key, content in fields.items():
            setattr(program.values[name], key, content)

    return change


def _second_producer(program: Program) -> None:
    program.nodes.append(Node("n2", "conv", list(program.nodes[0].inputs), ["y"], {}))


BREAKS: dict[str, tuple[Callable[[Program], None], str]] = {
    "operator": (lambda p: setattr(p.nodes[0], "op", "convolve"), "'convolve'"),
    "attribute": (_set("padding", 1), "'padding'"),
    "attribute kind": (_set("strides", "11"), "'strides'"),
    "attribute bool": (_set("groups", True), "'groups'"),
    "attribute nan": (_set("lo", float("nan")), "'lo'"),
    "stride zero": (_set("strides", [0, 1]), "strides"),
    "groups": (_set("groups", 4), "groups"),
    "attribute missing": (lambda p: p.nodes[0].attributes.pop("pads"), "'pads'"),
    "undefined input": (lambda p: p.nodes[0].inputs.__setitem__(0, "z"), "'z'"),
    "dtype": (_value("x", dtype="u4"), "'u4'"),
    "no scale": (_value("x", scale=None, zero_point=None), "'x'"),
    "scale zero": (_value("x", scale=0.0), "scale"),
    "scale not float32": (_value("x", scale=0.1), "scale"),
    "scale inf": (_value("x", scale=float("inf")), "scale"),
    "zero point": (_value("x", zero_point=256), "zero_point"),
    "dimension": (_value("x", shape=[-1, 5, 7, 6]), "-1"),
    "multiplier": (_constant("m", np.ones(5, np.float32)), "[6]"),
    "multiplier inf": (_constant("m", np.full(6, np.inf, np.float32)), "finite"),
    "weight rank": (_constant("w", np.ones((6, 5), np.int8)), "rank"),
    "weight dtype": (_constant("w", np.ones((6, 5, 3, 3), np.float32)), "s8"),
    "constant dtype": (_constant("w", np.ones((6, 5, 3, 3), np.float64)), "float64"),
    "output": (lambda p: p.outputs.append("q"), "'q'"),
    "orphan": (lambda p: p.values.update(q=Value("q", "f32", [])), "'q'"),
    "no output": (lambda p: p.outputs.clear(), "output"),
    "two producers": (_second_producer, "producer"),
}


def test_accepts_a_good_program() -> None:
    validate(conv_program(np.random.default_rng(0)))


@pytest.mark.parametrize("name", BREAKS)
def test_refuses(name: str) -> None:
    program = conv_program(np.random.default_rng(0))
    change, found = BREAKS[name]
    change(program)
    with pytest.raises(FileFormatError) as caught:
        validate(program, "some file")
    message = str(caught.value)
    assert message.startswith("some file: ") and found in message and "\n" not in message
