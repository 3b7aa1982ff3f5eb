"""What the core refuses: every fault is a CoreError of one line that names the item, never a crash."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_programs import Builder, core_session
from test_core_networks import network

from pyruntime import _core
from pyruntime.program import Constant, Node, Program, Value


def convolution() -> Program:
    b = Builder()
    x = b.input("u8", ["N", 4, 6, 6], 0.5, 3)
    return b.finish(b.conv(x, 4, 8, (3, 3), pads=(1, 1, 1, 1)))


def change(edit: Callable[[Program], Any]) -> Program:
    program = convolution()
    edit(program)
    return program


def attribute(name: str, value: Any) -> Callable[[Program], Any]:
    return lambda p: p.nodes[0].attributes.__setitem__(name, value)


def constant(position: int, array: np.ndarray) -> Callable[[Program], Any]:
    return lambda p: p.constants.__setitem__(
        p.nodes[0].inputs[position], Constant(p.nodes[0].inputs[position], array)
    )


FAULTS: dict[str, tuple[Callable[[Program], Any], str]] = {
    "unknown operator": (lambda p: setattr(p.nodes[0], "op", "convolve"), "n0"),
    "unknown value": (lambda p: p.nodes[0].inputs.__setitem__(0, "ghost"), "ghost"),
    "unproduced output": (lambda p: p.outputs.append("ghost"), "ghost"),
    "itself as input": (lambda p: p.nodes[0].inputs.__setitem__(0, "v0"), "v0"),
    "constant as input": (lambda p: p.inputs.append("c0"), "c0"),
    "two outputs": (lambda p: p.nodes[0].outputs.append("v0"), "2 outputs"),
    "twice": (lambda p: p.nodes.append(copy.deepcopy(p.nodes[0])), "n0"),
    "dtype": (lambda p: setattr(p.values["x0"], "dtype", "u4"), "u4"),
    "float input": (lambda p: setattr(p.values["x0"], "dtype", "f32"), "n0"),
    "scale": (lambda p: setattr(p.values["v0"], "scale", float("inf")), "v0"),
    "zero scale": (lambda p: setattr(p.values["v0"], "scale", 0.0), "v0"),
    "zero_point": (lambda p: setattr(p.values["v0"], "zero_point", 256), "v0"),
    "negative size": (lambda p: setattr(p.values["x0"], "shape", [-1, 4, 6, 6]), "x0"),
    "huge size": (lambda p: setattr(p.values["x0"], "shape", ["N", 4, 6, 2**70]), "x0"),
    "channels": (lambda p: setattr(p.values["x0"], "shape", [1, 5, 6, 6]), "n0"),
    "rank": (lambda p: setattr(p.values["x0"], "shape", [1, 4, 6]), "n0"),
    "window": (lambda p: setattr(p.values["x0"], "shape", [1, 4, 6, 0x7FFFFFFF]), "n0"),
    "no groups": (attribute("groups", 0), "groups"),
    "groups": (attribute("groups", 3), "groups"),
    "stride": (attribute("strides", [0, 1]), "strides"),
    "strides": (attribute("strides", [1]), "strides"),
    "pad": (attribute("pads", [0, 0, 0, -1]), "pads"),
    "huge pad": (attribute("pads", [0, 0, 0, 2**50]), "pads"),
    "large pads": (attribute("pads", [2**20] * 4), "n0"),
    "huge stride": (attribute("strides", [2**64, 1]), "strides"),
    "attribute type": (attribute("strides", "1 1"), "strides"),
    "attribute object": (attribute("strides", {}), "strides"),
    "nested": (attribute("strides", [[1], [1]]), "strides"),
    "lo": (attribute("lo", -1), "lo"),
    "hi": (attribute("hi", 10.5), "hi"),
    "nan": (attribute("hi", float("nan")), "hi"),
    "weight dtype": (constant(1, np.zeros((8, 4, 3, 3), np.uint8)), "c2"),
    "weight rank": (constant(1, np.zeros((8, 4), np.int8)), "c2"),
    "no outputs": (constant(1, np.zeros((0, 4, 3, 3), np.int8)), "c2"),
    "overflow": (constant(1, np.full((8, 8000, 3, 3), -128, np.int8)), "overflow"),
    "multiplier shape": (constant(2, np.ones(7, np.float32)), "c0"),
    "multiplier rank": (constant(2, np.ones((8, 1), np.float32)), "c0"),
    "multiplier dtype": (constant(2, np.ones(8, np.int32)), "c0"),
    "multiplier nan": (constant(2, np.full(8, np.nan, np.float32)), "c0"),
    "constant dtype": (constant(1, np.zeros((8, 4, 3, 3), np.float16)), "float16"),
    "byte order": (constant(2, np.ones(8, ">f4")), "c0"),
    "missing constant": (lambda p: p.nodes[0].inputs.__delitem__(3), "n0"),
    "residual without terms": (lambda p: p.nodes[0].inputs.append("x0"), "a_multiplier"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    edit, part = FAULTS[name]
    with pytest.raises(_core.CoreError) as caught:
        session = core_session(change(edit))
        session.run([np.zeros((1, 4, 6, 6), np.uint8)])
    message = str(caught.value)
    assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("feed", "part"),
    [
        ([], "0 inputs"),
        ([np.zeros((1, 4, 6, 6), np.float32)], "uint8"),
        ([np.zeros((1, 4, 6, 6), np.int8)], "uint8"),
        ([np.zeros((4, 6, 6), np.uint8)], "x0"),
        ([np.zeros((1, 4, 6, 7), np.uint8)], "x0"),
        ([np.zeros((1, 4, 6, 12), np.uint8)[..., ::2]], "contiguous"),
        (["x"], "x0"),
    ],
)
def test_wrong_feed(feed: list[Any], part: str) -> None:
    with pytest.raises(_core.CoreError, match=part):
        core_session(convolution()).run(feed)


def test_one_symbol_has_one_size() -> None:
    b = Builder()
    x, y = b.input("f32", ["N", 3]), b.input("f32", ["N", 3])
    session = core_session(b.finish(b.node("add", [x, y], "f32")))
    with pytest.raises(_core.CoreError, match="x1"):
        session.run([np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32)])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"isa": "sse9"}, "sse9"),
        ({"threads": -1}, "num_threads"),
        ({"threads": 5000}, "num_threads"),
        ({"weight_format": "csr"}, "csr"),
    ],
)
def test_wrong_option(options: dict[str, Any], part: str) -> None:
    with pytest.raises(_core.CoreError, match=part):
        core_session(convolution(), **options)


STRANGE = [-(2**63), -1, 0, 1, 2, 7, 2**31, 2**62, 0.5, -3.0, float("nan"), "nearest", "", [], [1], [0, 0]]
STRANGE += [[-1, -1], [2**40, 2**40], [1, 1, 1, 1], [0, 0, 2, 2], [-3, 1, 2, -9], [3, 2, 1, 0]]


@pytest.mark.parametrize("seed", range(60))
def test_damaged_programs_never_crash(seed: int) -> None:
    """Random edits of valid programs give a result or a CoreError."""
    rng = np.random.default_rng(seed)
    b, program = network(seed, steps=6)
    for _ in range(12):
        damaged = copy.deepcopy(program)
        damage(rng, damaged)
        try:
            session = core_session(damaged, threads=2)
            session.run([b.feed(N=1)[name] for name in program.inputs])
        except _core.CoreError as error:
            assert "\n" not in str(error)


def damage(rng: np.random.Generator, program: Program) -> None:
    node: Node = program.nodes[int(rng.integers(len(program.nodes)))]
    value: Value = program.values[list(program.values)[int(rng.integers(len(program.values)))]]
    kind = int(rng.integers(6))
    if kind == 0 and node.attributes:
        name = list(node.attributes)[int(rng.integers(len(node.attributes)))]
        node.attributes[name] = STRANGE[int(rng.integers(len(STRANGE)))]
    elif kind == 1:
        names = [*program.values, *program.constants, ""]
        node.inputs[int(rng.integers(len(node.inputs)))] = names[int(rng.integers(len(names)))]
    elif kind == 2:
        value.dtype = str(rng.choice(["f32", "u8", "s8", "s32", "s64"]))
    elif kind == 3 and program.constants:
        name = list(program.constants)[int(rng.integers(len(program.constants)))]
        shape = rng.integers(0, 5, int(rng.integers(0, 5)))
        program.constants[name] = Constant(name, np.ones(shape, program.constants[name].array.dtype))
    elif kind == 4 and node.attributes:
        del node.attributes[list(node.attributes)[int(rng.integers(len(node.attributes)))]]
    else:
        node.op = str(
            rng.choice(["conv", "dense", "concat", "softmax", "reshape", "pad", "resize", "max_pool"])
        )


def test_runs_after_fork() -> None:
    """A child process of a process that has run uses its own threads."""
    folder = str(Path(__file__).parent)
    # In place of the working directory, whose sources would hide an installed package.
    script = f"""
        import os, sys
        sys.path[0] = {folder!r}
        import numpy as np
        from core_programs import core_session
        from test_core_networks import network
        b, program = network(4)
        session = core_session(program, threads=3)
        feed = [b.feed(N=4)[name] for name in program.inputs]
        before = [y.tobytes() for y in session.run(feed)]
        child = os.fork()
        if child == 0:
            same = before == [y.tobytes() for y in session.run(feed)]
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert before == [y.tobytes() for y in session.run(feed)]
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_runs_after_a_pause() -> None:
    """Workers that went to sleep are woken when a run begins, which may itself begin on one thread."""
    b, program = network(4)
    session = core_session(program, threads=3)
    feed = [b.feed(N=4)[name] for name in program.inputs]
    before = [y.tobytes() for y in session.run(feed)]
    for _ in range(20):
        time.sleep(0.002)  # they spin for 50 us
        assert before == [y.tobytes() for y in session.run(feed)]


def test_subnormals_are_flushed_and_the_mode_is_restored() -> None:
    b = Builder()
    x = b.input("f32", ["N", 4])
    w = b.constant(np.full((3, 4), 1e-39, np.float32))
    scaled = b.node("mul", [x, b.constant(np.float32([0.5]))], "f32")
    session = core_session(b.finish(b.node("dense", [x, w, ""], "f32"), scaled))
    tiny = np.full((1, 4), 1e-38, np.float32)
    large, _ = session.run([np.full((1, 4), 1e10, np.float32)])
    _, halved = session.run([tiny])
    assert not large.any()
    assert not halved.any()
    assert (tiny * np.float32(0.5) > 0).all()
