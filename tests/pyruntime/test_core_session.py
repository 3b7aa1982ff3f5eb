"""Every operator of docs/format.md through `_core.Session`, against the NumPy reference, on every ISA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_programs import Builder, assert_same, check, core_session

from pyruntime import _core, reference

ISAS = _core.available_isas()
Case = Callable[[Builder], str]


def u8(b: Builder, *shape: int | str, scale: float = 0.25, zero_point: int = 7) -> str:
    return b.input("u8", list(shape), scale, zero_point)


def f32(b: Builder, *shape: int | str) -> str:
    return b.input("f32", list(shape))


def normal(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.normal(0, 1, shape).astype(np.float32))


def window(kernel: list[int], **changes: Any) -> dict[str, Any]:
    axes = len(kernel)
    base = {"kernel": kernel, "strides": [1] * axes, "pads": [0] * 2 * axes, "dilations": [1] * axes}
    return base | changes


CONVS: dict[str, Case] = {
    "1x1": lambda b: b.conv(u8(b, "N", 20, 5, 6), 20, 33, (1, 1)),
    "1x1 stride": lambda b: b.conv(u8(b, "N", 8, 7, 6), 8, 16, (1, 1), strides=(2, 2)),
    "3x3": lambda b: b.conv(u8(b, "N", 3, 9, 8), 3, 24, (3, 3), pads=(1, 1, 1, 1)),
    "3x3 stride asymmetric": lambda b: b.conv(u8(b, "N", 16, 9, 8), 16, 17, (3, 3), (2, 2), (0, 1, 2, 0)),
    "5x3 dilated": lambda b: b.conv(u8(b, "N", 5, 11, 13), 5, 7, (5, 3), (1, 2), (4, 1, 3, 2), (2, 3)),
    "7x7 stem": lambda b: b.conv(u8(b, "N", 3, 23, 21), 3, 16, (7, 7), (2, 2), (3, 3, 3, 3)),
    "big pads": lambda b: b.conv(u8(b, "N", 4, 2, 3), 4, 5, (3, 3), pads=(5, 4, 3, 6)),
    "1d": lambda b: b.conv(u8(b, "N", 6, 19), 6, 10, (5,), (2,), (2, 1)),
    "groups": lambda b: b.conv(u8(b, "N", 8, 5, 5), 8, 12, (3, 3), pads=(1, 1, 1, 1), groups=2),
    "many groups": lambda b: b.conv(u8(b, "N", 64, 4, 5), 64, 64, (3, 3), pads=(1, 1, 1, 1), groups=16),
    "depthwise": lambda b: b.conv(u8(b, "N", 70, 6, 7), 70, 70, (3, 3), pads=(1, 1, 1, 1), groups=70),
    "depthwise 5x5": lambda b: b.conv(u8(b, "N", 16, 9, 9), 16, 16, (5, 5), (2, 2), (2, 1, 1, 2), groups=16),
    "depthwise 1d": lambda b: b.conv(u8(b, "N", 9, 12), 9, 9, (3,), pads=(1, 1), groups=9),
    "depthwise dilated": lambda b: b.conv(
        u8(b, "N", 64, 9, 9), 64, 64, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2), groups=64
    ),
    "depth multiplier": lambda b: b.conv(u8(b, "N", 6, 5, 6), 6, 12, (3, 3), pads=(1, 1, 1, 1), groups=6),
    "one output": lambda b: b.conv(u8(b, "N", 5, 4, 4), 5, 1, (3, 3)),
    "one channel": lambda b: b.conv(u8(b, "N", 1, 4, 4), 1, 3, (2, 2)),
    "clamped": lambda b: b.conv(u8(b, "N", 5, 4, 4), 5, 9, (2, 2), lo=40, hi=200),
    "float output": lambda b: b.conv(u8(b, "N", 12, 5, 5), 12, 20, (3, 3), dtype="f32", lo=-3.5),
    "sparse": lambda b: b.conv(u8(b, "N", 32, 6, 6), 32, 48, (3, 3), pads=(1, 1, 1, 1), density=0.1),
    "all zero": lambda b: b.conv(u8(b, "N", 8, 3, 3), 8, 8, (1, 1), density=0.0),
}


def integer_residual(b: Builder) -> str:
    x = u8(b, "N", 24, 6, 7)
    left = b.conv(x, 24, 40, (3, 3), pads=(1, 1, 1, 1))
    right = b.conv(x, 24, 40, (1, 1), residual=left, lo=30, hi=240)
    return b.conv(right, 40, 40, (3, 3), pads=(1, 1, 1, 1), groups=40, residual=left)


def integer_dense(b: Builder) -> str:
    x = u8(b, "N", 3, 70)
    w = b.constant(b.weights(21, 70))
    first = b.node("dense", [x, w, *b.scales(21, 70)], "u8", 0.5, 3)
    w = b.constant(b.weights(21, 21))
    attributes = {"a_multiplier": 0.5, "b_multiplier": 0.25, "add_offset": 3.5, "add_lo": 20}
    second = b.node("dense", [first, w, *b.scales(21, 21), first], "u8", 0.5, 3, **attributes)
    w = b.constant(b.weights(5, 21))
    return b.node("dense", [second, w, *b.scales(5, 21)], "f32")


def float_conv(groups: int, residual: bool, **conv: Any) -> Case:
    def build(b: Builder) -> str:
        x = f32(b, "N", 12, 7, 8)
        w = normal(b, 12, 12 // groups, 3, 3)
        attributes = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "groups": groups} | conv
        inputs = [x, w, normal(b, 12)] + ([x] if residual else [])
        return b.node("conv", inputs, "f32", **attributes)

    return build


def float_dense(b: Builder) -> str:
    x = f32(b, "N", 3, 19)
    y = b.node("dense", [x, normal(b, 19, 19), normal(b, 19), x], "f32", lo=-2.0, hi=6.0)
    return b.node("dense", [y, normal(b, 4, 19), ""], "f32")


def quantized(op: Case, scale: float = 0.25, zero_point: int = 7) -> Case:
    """Images through quantize, so that `op` meets channels-last values with a halo."""

    def build(b: Builder) -> str:
        x = b.node("quantize", [f32(b, "N", 6, 7, 9)], "u8", scale, zero_point)
        image = b.conv(x, 6, 6, (3, 3), pads=(1, 1, 1, 1))
        b.program.values[image].scale, b.program.values[image].zero_point = scale, zero_point
        b.last = image  # type: ignore[attr-defined]
        return op(b)

    return build


def add_u8(b: Builder, a: str, c: str) -> str:
    attributes = {"a_multiplier": 0.75, "b_multiplier": -0.625, "offset": 90.125, "lo": 3, "hi": 250}
    return b.node("add", [a, c], "u8", 0.5, 90, **attributes)


def mul_u8(b: Builder, a: str, c: str) -> str:
    attributes = {"a_zero_point": 7, "b_zero_point": 100, "multiplier": 0.0125, "offset": 90.5}
    return b.node("mul", [a, c], "u8", 0.5, 90, **attributes)


def u8_constant(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.integers(0, 256, shape).astype(np.uint8))


def through_conv(b: Builder, x: str, channels: int) -> str:
    return b.conv(x, channels, 8, (3, 3), pads=(1, 1, 1, 1))


def column(b: Builder) -> str:
    """One channel, one column: the halo is all that separates its cells."""
    return b.node("quantize", [f32(b, "N", 1, 6, 1)], "u8", 0.25, 7)


def last(b: Builder) -> str:
    return b.last  # type: ignore[attr-defined, no-any-return]


def global_average_with_halo(b: Builder) -> str:
    image = last(b)
    through_conv(b, image, 6)  # gives the image a halo
    pooled = b.node("average_pool", [image], "u8", 0.2, 9, multiplier=1.25, **{"global": 1})
    return b.node("flatten", [pooled], "u8", 0.2, 9, axis=1)


def concat_with_input(b: Builder) -> str:
    joined = b.node("concat", [last(b), u8(b, "N", 5, 7, 9), last(b)], "u8", 0.25, 7, axis=1)
    return through_conv(b, joined, 17)


INTEGER: dict[str, Case] = {
    "residual": integer_residual,
    "dense": integer_dense,
    "quantize": lambda b: b.node("quantize", [f32(b, "N", 5, 3)], "u8", 0.03, 120),
    "quantize s8": lambda b: b.node("quantize", [f32(b, "N", 5, 3, 4)], "s8", 0.03, -5),
    "quantize image": quantized(lambda b: last(b)),
    "requantize": lambda b: b.node(
        "quantize", [b.node("dequantize", [u8(b, "N", 3, 5, 5)], "f32")], "u8", 0.3, 12
    ),
    "add": lambda b: add_u8(b, u8(b, "N", 9, 5, 4), u8(b, "N", 9, 5, 4)),
    "add images": quantized(lambda b: through_conv(b, add_u8(b, last(b), last(b)), 6)),
    "add channel": quantized(lambda b: add_u8(b, last(b), u8_constant(b, 1, 6, 1, 1))),
    "add row": quantized(lambda b: add_u8(b, last(b), u8_constant(b, 7, 1))),
    "add full constant": quantized(lambda b: add_u8(b, u8_constant(b, 1, 6, 7, 9), last(b))),
    "add one column": lambda b: through_conv(b, add_u8(b, column(b), column(b)), 1),
    "lut one column": lambda b: through_conv(
        b, b.node("lut", [column(b), u8_constant(b, 256)], "u8", 0.5, 30), 1
    ),
    "concat one column": lambda b: through_conv(
        b, b.node("concat", [column(b), column(b)], "u8", 0.25, 7, axis=2), 1
    ),
    "add scalar": lambda b: add_u8(b, u8_constant(b, 1), u8(b, "N", 300)),
    "mul": lambda b: mul_u8(b, u8(b, "N", 9, 50), u8(b, "N", 1, 50)),
    "mul pooled": quantized(
        lambda b: through_conv(
            b,
            mul_u8(
                b, last(b), b.node("average_pool", [last(b)], "u8", 0.25, 7, multiplier=1.0, **{"global": 1})
            ),
            6,
        )
    ),
    "lut": lambda b: b.node("lut", [u8(b, "N", 33), u8_constant(b, 256)], "u8", 0.5, 3),
    "lut s8": lambda b: b.node(
        "lut", [b.input("s8", ["N", 3, 9, 9], 0.5, 3), u8_constant(b, 256)], "u8", 0.5, 3
    ),
    "lut image": quantized(
        lambda b: through_conv(b, b.node("lut", [last(b), u8_constant(b, 256)], "u8", 0.5, 30), 6)
    ),
    "max_pool": quantized(
        lambda b: b.node(
            "max_pool", [last(b)], "u8", 0.25, 7, **window([3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        )
    ),
    "max_pool ceil": quantized(
        lambda b: b.node("max_pool", [last(b)], "u8", 0.25, 7, **window([2, 3], strides=[2, 3], ceil_mode=1))
    ),
    "max_pool dilated": quantized(
        lambda b: b.node("max_pool", [last(b)], "u8", 0.25, 7, **window([2, 2], dilations=[3, 2]))
    ),
    "max_pool 1d": lambda b: b.node(
        "max_pool", [u8(b, "N", 5, 17)], "u8", 0.25, 7, **window([3], strides=[2])
    ),
    "max_pool global": quantized(lambda b: b.node("max_pool", [last(b)], "u8", 0.25, 7, **{"global": 1})),
    "average_pool": quantized(
        lambda b: b.node(
            "average_pool",
            [last(b)],
            "u8",
            0.2,
            9,
            multiplier=1.25,
            **window([3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
        )
    ),
    "average_pool include": quantized(
        lambda b: b.node(
            "average_pool",
            [last(b)],
            "u8",
            0.2,
            9,
            multiplier=1.25,
            count_include_pad=1,
            **window([3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1),
        )
    ),
    "average_pool global": lambda b: b.node(
        "average_pool", [u8(b, "N", 200, 3, 5)], "u8", 0.2, 9, multiplier=1.25, **{"global": 1}
    ),
    "average_pool global halo": quantized(global_average_with_halo),
    "concat channels": quantized(concat_with_input),
    "concat rows": quantized(lambda b: b.node("concat", [last(b), last(b)], "u8", 0.25, 7, axis=-2)),
    "slice": quantized(
        lambda b: through_conv(
            b,
            b.node(
                "slice", [last(b)], "u8", 0.25, 7, starts=[1, -1], ends=[5, -9], axes=[1, 2], steps=[2, -2]
            ),
            2,
        )
    ),
    "pad": quantized(
        lambda b: through_conv(
            b,
            b.node("pad", [last(b)], "u8", 0.25, 7, pads=[0, 1, 2, -1, 0, 0, 1, 3], mode="constant", value=7),
            7,
        )
    ),
    "pad reflect": quantized(
        lambda b: b.node("pad", [last(b)], "u8", 0.25, 7, pads=[0, 0, 2, -1, 0, 0, 1, 3], mode="reflect")
    ),
    "pad edge": lambda b: b.node(
        "pad", [u8(b, 4, "N", 5)], "u8", 0.25, 7, pads=[1, 0, 2, 0, 0, 3], mode="edge"
    ),
    "resize nearest": quantized(
        lambda b: through_conv(
            b,
            b.node(
                "resize",
                [last(b)],
                "u8",
                0.25,
                7,
                mode="nearest",
                scales=[1.0, 1.0, 2.0, 2.0],
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ),
            6,
        )
    ),
    "resize sizes": quantized(
        lambda b: b.node(
            "resize",
            [last(b)],
            "u8",
            0.25,
            7,
            mode="nearest",
            sizes=[2, 6, 5, 14],
            coordinate_transformation_mode="half_pixel",
        )
    ),
    "transpose": quantized(lambda b: b.node("transpose", [last(b)], "u8", 0.25, 7, perm=[0, 2, 3, 1])),
    "shuffle": quantized(
        lambda b: through_conv(
            b,
            b.node(
                "reshape",
                [
                    b.node(
                        "transpose",
                        [b.node("reshape", [last(b)], "u8", 0.25, 7, shape=[0, 2, 3, 7, -1])],
                        "u8",
                        0.25,
                        7,
                        perm=[0, 2, 1, 3, 4],
                    )
                ],
                "u8",
                0.25,
                7,
                shape=[-1, 6, 7, 9],
            ),
            6,
        )
    ),
    "flatten image": quantized(lambda b: b.node("flatten", [last(b)], "u8", 0.25, 7, axis=1)),
    "reshape input": lambda b: b.node("reshape", [u8(b, "N", 4, 6)], "u8", 0.25, 7, shape=[0, -1]),
    "squeeze": lambda b: b.node(
        "unsqueeze",
        [b.node("squeeze", [u8(b, "N", 1, 4, 1)], "u8", 0.25, 7, axes=[1, -1])],
        "u8",
        0.25,
        7,
        axes=[0, 3],
    ),
}


def unary(name: str, **attributes: float) -> Case:
    return lambda b: b.node("unary", [f32(b, "N", 3, 5, 70)], "f32", function=name, **attributes)


def through_float_conv(b: Builder, x: str, channels: int) -> str:
    attributes = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "groups": 1}
    return b.node("conv", [x, normal(b, 5, channels, 3, 3), ""], "f32", **attributes)


def linear(mode: str, **target: Any) -> Case:
    return lambda b: b.node(
        "resize", [f32(b, "N", 3, 5, 6)], "f32", mode="linear", coordinate_transformation_mode=mode, **target
    )


FLOAT: dict[str, Case] = {
    "conv": float_conv(1, False),
    "conv residual": float_conv(1, True, lo=0.0, hi=6.0),
    "conv groups": float_conv(3, False),
    "conv depthwise": float_conv(12, False, strides=[2, 2]),
    "conv depthwise residual": float_conv(12, True, lo=0.0),
    "dense": float_dense,
    "dequantize": lambda b: b.node("dequantize", [u8(b, "N", 5, 4, 3)], "f32"),
    "dequantize s8": lambda b: b.node("dequantize", [b.input("s8", ["N", 50], 0.5, -3)], "f32"),
    "dequantize s32": lambda b: b.node("dequantize", [b.input("s32", ["N", 50], 0.5, -3)], "f32"),
    "dequantize image": quantized(lambda b: through_float_conv(b, b.node("dequantize", [last(b)], "f32"), 6)),
    "cast": lambda b: b.node("cast", [b.input("s64", ["N", 5])], "f32"),
    "cast u8": lambda b: b.node("cast", [u8(b, "N", 5)], "f32"),
    "add": lambda b: b.node("add", [f32(b, "N", 3, 70), f32(b, 3, 1)], "f32"),
    "sub": lambda b: b.node("sub", [f32(b, 70), f32(b, "N", 3, 70)], "f32", lo=-1.0, hi=1.0),
    "mul": lambda b: b.node("mul", [f32(b, "N", 1, 5, 70), f32(b, 4, 1, 70)], "f32"),
    "div": lambda b: b.node("div", [f32(b, "N", 3, 70), normal(b, 1)], "f32"),
    "normalize": lambda b: through_float_conv(
        b, b.node("sub", [f32(b, "N", 3, 8, 8), normal(b, 3, 1, 1)], "f32"), 3
    ),
    "prelu": lambda b: through_float_conv(
        b, b.node("prelu", [f32(b, "N", 3, 8, 8), normal(b, 3, 1, 1)], "f32"), 3
    ),
    "max_pool": lambda b: b.node("max_pool", [f32(b, "N", 3, 8, 8)], "f32", **window([2, 2], strides=[2, 2])),
    "average_pool": lambda b: b.node(
        "average_pool",
        [f32(b, "N", 3, 8, 8)],
        "f32",
        **window([3, 3], pads=[1, 1, 0, 0], count_include_pad=1),
    ),
    "average_pool global": lambda b: b.node(
        "flatten", [b.node("average_pool", [f32(b, "N", 30, 8, 8)], "f32", **{"global": 1})], "f32", axis=1
    ),
    "reduce_mean": lambda b: b.node("reduce_mean", [f32(b, "N", 3, 8, 8)], "f32", axes=[2, 3], keepdims=0),
    "reduce_mean image": lambda b: b.node(
        "reduce_mean", [through_float_conv(b, f32(b, "N", 3, 8, 8), 3)], "f32", axes=[-1, 2], keepdims=1
    ),
    "reduce_mean outer": lambda b: b.node("reduce_mean", [f32(b, 3, "N", 8)], "f32", axes=[0, 2], keepdims=1),
    "softmax": lambda b: b.node("softmax", [f32(b, "N", 3, 70)], "f32", axis=-1),
    "softmax channels": lambda b: b.node(
        "softmax", [through_float_conv(b, f32(b, "N", 3, 8, 8), 3)], "f32", axis=1
    ),
    "softmax middle": lambda b: b.node("softmax", [f32(b, "N", 13, 7)], "f32", axis=1),
    "matmul": lambda b: b.node("matmul", [f32(b, "N", 3, 5, 20), f32(b, "N", 1, 20, 33)], "f32"),
    "matmul vector": lambda b: b.node("matmul", [f32(b, "N", 3, 5), f32(b, 5)], "f32"),
    "concat": lambda b: b.node("concat", [f32(b, "N", 3), f32(b, "N", 4)], "f32", axis=1),
    "linear half_pixel": linear("half_pixel", scales=[1.0, 1.0, 2.0, 1.5]),
    "linear pytorch": linear("pytorch_half_pixel", sizes=[2, 3, 1, 9]),
    "linear align": linear("align_corners", sizes=[2, 3, 11, 4]),
    "linear asymmetric": linear("asymmetric", scales=[1.0, 1.0, 0.6, 2.0]),
    **{name: unary(name) for name in ("relu", "sigmoid", "hard_swish", "tanh", "gelu", "gelu_tanh", "silu")},
    **{name: unary(name) for name in ("exp", "erf", "neg", "abs", "reciprocal")},
    "clip": unary("clip", lo=-0.5, hi=1.0),
    "leaky_relu": unary("leaky_relu", alpha=0.1),
    "hard_sigmoid": unary("hard_sigmoid", alpha=0.2, beta=0.5),
    "sqrt": lambda b: b.node(
        "unary", [b.node("unary", [f32(b, "N", 9)], "f32", function="abs")], "f32", function="sqrt"
    ),
}

ALL = {
    f"{kind} {name}": case
    for kind, cases in (("conv", CONVS), ("u8", INTEGER), ("f32", FLOAT))
    for name, case in cases.items()
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ALL)
def test_operator(name: str, isa: str) -> None:
    b = Builder(seed=len(name))
    program = b.finish(ALL[name](b))
    check(program, b.feed(N=2), isa, threads=1)
    check(program, b.feed(N=2), isa, threads=2)


@pytest.mark.parametrize("name", ALL)
def test_every_value_as_output(name: str) -> None:
    """Calibration reads any value: all of them as outputs, in their stored dtype."""
    b = Builder(seed=len(name))
    ALL[name](b)
    program = b.finish(*b.program.values)
    check(program, b.feed(N=2), threads=3)


# The sizes are of a batch of 2, or the result has no value for no cells.
NOT_EMPTY = (
    "u8 resize sizes",
    "u8 reshape input",
    "f32 linear pytorch",
    "f32 linear align",
    "f32 reduce_mean outer",
)


@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_EMPTY])
def test_empty_batch(name: str) -> None:
    b = Builder()
    program = b.finish(ALL[name](b))
    feed = b.feed(N=0)
    (got,) = core_session(program, threads=2).run([feed[n] for n in program.inputs])
    (expected,) = reference.run(program, feed).values()
    assert_same(got, expected, name)


def test_reshape_of_an_empty_batch_keeps_the_row_length() -> None:
    b = Builder()
    program = b.finish(b.node("reshape", [f32(b, "N", 4, 6)], "f32", shape=[0, -1]))
    x = np.zeros((0, 4, 6), np.float32)
    (y,) = core_session(program).run([x])
    (expected,) = reference.run(program, dict.fromkeys(program.inputs, x)).values()
    assert y.shape == expected.shape == (0, 24)
