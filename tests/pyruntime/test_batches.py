"""Large batches run in slices where samples are worked on one by one, and give what a whole batch gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pyruntime import reference
from pyruntime.program import Program
from tests.pyruntime.core_programs import Builder, assert_same, core_session

# Two slices of layers that read and write 18 MB.
SAMPLES, IMAGE = 70, [8, 64, 64]


def check_slices(program: Program, feed: dict[str, np.ndarray], slices: int) -> None:
    """The outputs are those of the reference, and every step ran once a slice."""
    expected = reference.run(program, feed)
    session = core_session(program, threads=2, profiling=True)
    got = session.run([feed[name] for name in program.inputs])
    for name, array in zip(program.outputs, got, strict=True):
        assert_same(array, expected[name], name)
    assert {row["calls"] for row in session.profile() if row["calls"] > 0} == {slices}


def large(b: Builder, tail: list[int] | None = None) -> str:
    """An input and a sum, whose output with the input is more than a slice may be."""
    x = b.input("f32", ["N", *(tail or IMAGE)])
    return b.node("add", [x, b.constant(np.float32([0.5]))], "f32")


def test_images_are_sliced() -> None:
    b = Builder(1)
    x = b.node("quantize", [large(b)], "u8", 0.05, 128)
    first = b.conv(x, 8, 8, (3, 3), pads=(1, 1, 1, 1))
    second = b.conv(first, 8, 8, (1, 1), residual=first)
    both = b.node("concat", [first, second], "u8", 0.5, 11, axis=1)
    cut = b.node("slice", [both], "u8", 0.5, 11, starts=[2], ends=[12], axes=[1], steps=[1])
    padded = b.node("pad", [cut], "u8", 0.5, 11, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="edge")
    window = {"kernel": [3, 3], "strides": [2, 2], "pads": [0] * 4, "dilations": [1, 1]}
    pooled = b.node("max_pool", [padded], "u8", 0.5, 11, **window)
    values = b.node("dequantize", [pooled], "f32")
    turned = b.node("transpose", [values], "f32", perm=[0, 2, 3, 1])
    flat = b.node("reshape", [turned], "f32", shape=[0, -1])
    out = b.node("softmax", [flat], "f32", axis=1)
    program = b.finish(b.node("reduce_mean", [values], "f32", axes=[2, 3], keepdims=0), out)
    check_slices(program, b.feed(N=SAMPLES), 2)
    check_slices(program, b.feed(N=3), 1)
    check_slices(program, b.feed(N=SAMPLES + 81), 3)


def test_a_batch_of_all_sizes_is_sliced_like_its_samples() -> None:
    b = Builder(2)
    program = b.finish(b.node("softmax", [large(b)], "f32", axis=-1))
    session = core_session(program, threads=2)
    (x,) = b.feed(N=301).values()
    (alone,) = session.run([x])
    for samples in (60, 61, 62, 122, 299):
        (part,) = session.run([np.ascontiguousarray(x[:samples])])
        np.testing.assert_array_equal(part, alone[:samples])


def test_broadcasts_within_samples_are_sliced() -> None:
    b = Builder(8)
    x = large(b)
    mean = b.node("reduce_mean", [x], "f32", axes=[1], keepdims=1)
    low = b.node("unary", [b.node("sub", [x, mean], "f32")], "f32", function="clip", hi=0.0)
    chosen = b.node("where", [low, x, b.constant(b.rng.normal(0, 1, (8, 1, 64)).astype(np.float32))], "f32")
    product = b.node("matmul", [chosen, mean], "f32")
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    doubled = b.node("resize", [mean], "f32", scales=[1, 1, 2, 2], **nearest)
    program = b.finish(product, b.node("mul", [doubled, doubled], "f32"))
    check_slices(program, b.feed(N=SAMPLES), 2)


@pytest.mark.parametrize("mask", [None, ["N", 1, 1, "T"]])
def test_sequences_are_sliced(mask: list[int | str] | None) -> None:
    b = Builder(3)
    x = b.input("f32", ["N", "T", 32])
    scale = b.constant(np.ones(32, np.float32))
    norm = b.node("layer_norm", [b.node("add", [x, x], "f32"), scale], "f32", axis=-1, epsilon=1e-5)
    q, k, v = (b.node("quantize", [norm], "u8", 0.02, zero) for zero in (128, 100, 140))
    inputs = [q, k, v, *([] if mask is None else [b.input("f32", mask)])]
    factors = {"multiplier": 1e-4, "output_multiplier": 1.0}
    out = b.node("attention", inputs, "f32", heads=2, **factors)
    check_slices(b.finish(out), b.feed(N=1000, T=48), 2)


def test_a_table_of_embeddings_is_shared() -> None:
    for rows, slices in ((50, 2), (40000, 1)):  # reading 20 MB of weights twice would cost more
        b = Builder(4)
        table = b.constant(b.rng.normal(0, 1, (rows, 128)).astype(np.float32))
        out = b.node("gather", [table, b.input("s64", ["N", 4])], "f32", axis=0)
        program = b.finish(b.node("add", [out, b.constant(np.float32([1]))], "f32"))
        check_slices(program, {program.inputs[0]: b.rng.integers(0, rows, (5000, 4))}, slices)


def add_last_axis(b: Builder) -> str:
    return b.node("add", [large(b, [8, 64, SAMPLES]), b.input("f32", ["N"])], "f32")


MIXED: dict[str, Callable[[Builder], str]] = {
    "softmax": lambda b: b.node("softmax", [large(b)], "f32", axis=0),
    "reduce_mean": lambda b: b.node("reduce_mean", [large(b)], "f32", axes=[0], keepdims=1),
    "concat": lambda b: b.node("concat", [x := large(b), x], "f32", axis=0),
    "slice": lambda b: b.node("slice", [large(b)], "f32", starts=[1], ends=[1 << 30], axes=[0], steps=[1]),
    "reverse": lambda b: b.node(
        "slice", [large(b)], "f32", starts=[-1], ends=[-(1 << 30)], axes=[0], steps=[-1]
    ),
    "transpose": lambda b: b.node("transpose", [large(b)], "f32", perm=[1, 0, 2, 3]),
    "reshape": lambda b: b.node("reshape", [large(b)], "f32", shape=[-1, 64]),
    "flatten": lambda b: b.node("flatten", [large(b)], "f32", axis=0),
    "fixed": lambda b: b.node("reshape", [large(b)], "f32", shape=[SAMPLES, 8, -1]),
    "unsqueeze": lambda b: b.node("unsqueeze", [large(b)], "f32", axes=[0]),
    "pad": lambda b: b.node("pad", [large(b)], "f32", pads=[1, 0, 0, 0, -1, 0, 0, 0], mode="edge"),
    "gather": lambda b: b.node("gather", [large(b), b.constant(np.int64([3, 1]))], "f32", axis=0),
    "layer_norm": lambda b: b.node(
        "layer_norm",
        [large(b), b.constant(np.ones((SAMPLES, *IMAGE), np.float32))],
        "f32",
        axis=0,
        epsilon=1e-5,
    ),
    "add": add_last_axis,
    "add_whole": lambda b: b.node(
        "add", [large(b), b.constant(np.ones((SAMPLES, 1, 1, 1), np.float32))], "f32"
    ),
    "matmul": lambda b: b.node("matmul", [large(b, [1000, SAMPLES]), b.input("f32", ["N", 3])], "f32"),
    "where": lambda b: b.node(
        "where", [x := large(b), x, b.constant(np.ones((SAMPLES, 1, 1, 1), np.float32))], "f32"
    ),
}


@pytest.mark.parametrize("name", list(MIXED))
def test_what_mixes_samples_runs_whole(name: str) -> None:
    b = Builder(5)
    program = b.finish(MIXED[name](b))
    check_slices(program, b.feed(N=SAMPLES), 1)


def test_slices_of_one_sample_do_not_broadcast() -> None:
    b = Builder(9)
    program = b.finish(b.node("add", [b.input("f32", ["N", 700, 1000, 3]), b.input("f32", ["N"])], "f32"))
    check_slices(program, b.feed(N=3), 1)
    b = Builder(10)
    check_slices(b.finish(large(b, [700, 1000, 3])), b.feed(N=3), 3)


def test_samples_picked_from_others_run_whole() -> None:
    b = Builder(12)
    program = b.finish(b.node("gather", [large(b), b.input("s64", ["N"])], "f32", axis=0))
    feed = b.feed(N=SAMPLES)
    feed[program.inputs[1]] = b.rng.integers(0, SAMPLES, SAMPLES)
    check_slices(program, feed, 1)


def test_any_number_of_samples_without_values() -> None:
    b = Builder(11)
    program = b.finish(b.node("unary", [b.input("f32", ["N", "C"])], "f32", function="relu"))
    for shape in ((0, 5), (1 << 40, 0)):
        (got,) = core_session(program, threads=2).run([np.zeros(shape, np.float32)])
        assert got.shape == shape


def test_inputs_of_different_batches_run_whole() -> None:
    b = Builder(6)
    program = b.finish(b.node("add", [large(b), b.input("f32", [1, *IMAGE])], "f32"))
    check_slices(program, b.feed(N=SAMPLES), 1)
    b = Builder(7)
    shared = b.node("add", [b.input("f32", ["N", 64]), b.constant(np.float32([1]))], "f32")
    program = b.finish(large(b), b.node("reshape", [shared], "f32", shape=[-1]))
    check_slices(program, b.feed(N=SAMPLES), 1)
