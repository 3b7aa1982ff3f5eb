"""The operators of transformers in the core: bit for bit the reference, on every instruction set."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyruntime import _core, reference
from pyruntime.program import Program
from tests.pyruntime.core_programs import Builder, core_session, random_array

ISAS = list(_core.available_isas())


def check_exact(program: Program, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs equal the reference bit for bit, on every ISA and thread count."""
    expected = reference.run(program, feed)
    for isa, threads in itertools.product(ISAS, (1, 2)):
        got = core_session(program, isa, threads).run([feed[name] for name in program.inputs])
        for name, array in zip(program.outputs, got, strict=True):
            assert array.dtype == expected[name].dtype and array.shape == expected[name].shape
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{name} {isa} {threads}")
    return [expected[name] for name in program.outputs]


@pytest.mark.parametrize("n", [1, 7, 16, 40, 384])
@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_layer_norm(n: int, dtype: str) -> None:
    b = Builder(n)
    x = b.input("f32", ["N", 3, n])
    scale = b.constant(b.rng.normal(1, 0.3, n).astype(np.float32))
    bias = b.constant(b.rng.normal(0, 0.3, n).astype(np.float32))
    quantized = (0.03, 121) if dtype == "u8" else (None, None)
    y = b.node("layer_norm", [x, scale, bias], dtype, *quantized, axis=-1, epsilon=1e-5)
    z = b.node("layer_norm", [x, scale], dtype, *quantized, axis=2, epsilon=1e-12)
    (first, _) = check_exact(b.finish(y, z), b.feed(N=5))
    if dtype == "f32" and n > 1:
        assert abs(float(first.std()) - 1) < 0.5


def test_layer_norm_over_two_axes() -> None:
    b = Builder(1)
    x = b.input("f32", ["N", 3, 4, 5])
    scale = b.constant(b.rng.normal(1, 0.3, (4, 5)).astype(np.float32))
    check_exact(b.finish(b.node("layer_norm", [x, scale], "f32", axis=2, epsilon=1e-5)), b.feed(N=3))


class Normalized:
    """x + y, normalized, quantized; what stays of it is added to x and normalized again."""

    def __init__(self, n: int, addend: list[int | str] | None = None, **bounds: float) -> None:
        self.b = b = Builder(n)
        self.scale = b.constant(b.rng.normal(1, 0.3, n).astype(np.float32))
        self.x, y = b.input("f32", ["N", 7, n]), b.input("f32", addend or ["N", 7, n])
        self.sum = b.node("add", [self.x, y], "f32", **bounds)
        self.norm = self.normalize(self.sum)
        self.bytes = b.node("quantize", [self.norm], "u8", 0.03, 121)
        self.last = self.normalize(b.node("add", [self.norm, self.x], "f32"))

    def normalize(self, x: str) -> str:
        return self.b.node("layer_norm", [x, self.scale], "f32", axis=-1, epsilon=1e-5)

    def fused(self, *outputs: str) -> list[str]:
        """Operators with nothing to do, once results are checked on every instruction set."""
        program = self.b.finish(*outputs)
        check_exact(program, self.b.feed(N=5))
        rows = core_session(program).kernels()
        return [row["op"] for row in rows if row["kernel"] == "runtime:fused"]


@pytest.mark.parametrize("n", [1, 16, 40, 384])
def test_layer_norm_adds_and_quantizes(n: int) -> None:
    net = Normalized(n, lo=-0.5, hi=2.0)
    assert net.fused(net.bytes, net.last) == ["add", "quantize", "add"]
    assert net.fused(net.norm, net.bytes, net.last) == ["add", "quantize", "add"]


def test_sums_that_layer_norm_leaves_alone() -> None:
    net = Normalized(24)
    assert net.fused(net.sum, net.bytes, net.last) == ["quantize", "add"]  # the caller reads it
    broadcast = Normalized(24, [24])
    assert broadcast.fused(broadcast.bytes, broadcast.last) == ["quantize", "add"]
    twice = Normalized(24)
    twice.b.program.nodes[0].inputs[1] = twice.x
    assert twice.fused(twice.bytes, twice.last) == ["add", "quantize", "add"]


def test_layer_norm_adds_images() -> None:
    """The addends are stored channels-last, what is normalized is not."""
    b = Builder(4)
    x = b.node("quantize", [b.input("f32", ["N", 5, 6, 8])], "u8", 0.03, 9)
    a = b.node("dequantize", [b.conv(x, 5, 12, (3, 3), pads=(1, 1, 1, 1))], "f32")
    c = b.node("dequantize", [b.conv(x, 5, 12, (3, 3), pads=(1, 1, 1, 1))], "f32")
    scale = b.constant(b.rng.normal(1, 0.3, 8).astype(np.float32))
    norm = b.node("layer_norm", [b.node("add", [a, c], "f32"), scale], "f32", axis=3, epsilon=1e-5)
    y = b.node("quantize", [norm], "u8", 0.03, 9)
    check_exact(b.finish(b.conv(y, 12, 5, (3, 3)), norm), b.feed(N=2))


def test_addends_live_until_they_are_normalized() -> None:
    """Tensors made between a sum and its normalization do not take the place of what is added up."""
    b = Builder(5)
    x = b.input("f32", ["N", 40])
    scale = b.constant(b.rng.normal(1, 0.3, 40).astype(np.float32))
    addends = [b.node("unary", [x], "f32", function=name) for name in ("abs", "relu")]
    total = b.node("add", addends, "f32")
    others = [b.node("unary", [x], "f32", function=name) for name in ("neg", "sqrt")]
    norm = b.node("layer_norm", [total, scale], "f32", axis=-1, epsilon=1e-5)
    both = [b.node("quantize", [norm], "u8", 0.03, 121), b.node("add", others, "f32")]
    last = b.node("add", [b.node("unary", [norm], "f32", function="abs"), both[1]], "f32")
    check_exact(b.finish(both[0], last), b.feed(N=9))


def test_sum_and_quantized_copy_of_nothing() -> None:
    net = Normalized(3)
    check_exact(net.b.finish(net.bytes, net.last), net.b.feed(N=0))


@pytest.mark.parametrize("n", [1, 5, 16, 33, 129])
def test_softmax(n: int) -> None:
    b = Builder(n)
    x = b.input("f32", ["N", n])
    feed = b.feed(N=6)
    feed[x] *= 10
    feed[x][1, 0] = -np.inf
    check_exact(b.finish(b.node("softmax", [x], "f32", axis=-1)), feed)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([2, 3, 5, 7], [2, 3, 7, 9]),
        ([4, 50, 64], [4, 64, 40]),
        ([33, 16], [16, 16]),
        ([2, 1, 6, 8], [3, 8, 17]),
        ([5], [5, 4]),
        ([3, 6], [6]),
        ([1, 300], [300, 700]),
        ([2, 85, 66], [2, 66, 33]),
        ([17, 131], [131, 48]),
    ],
)
@pytest.mark.parametrize("dtype", ["u8", "f32"])
def test_integer_matmul(left: list[int], right: list[int], dtype: str) -> None:
    b = Builder(len(left))
    x, y = b.input("u8", left, 0.1, 120), b.input("u8", right, 0.2, 133)
    spread = 60 / (100 * 100 * np.sqrt(left[-1]))
    attributes = {"multiplier": float(np.float32(spread)), "offset": 130.0}
    quantized = (0.05, 130) if dtype == "u8" else (None, None)
    clamp = {"lo": 10, "hi": 240} if dtype == "u8" else {"hi": 200.0}
    out = b.node("matmul", [x, y], dtype, *quantized, **attributes, **clamp)
    (got,) = check_exact(b.finish(out), b.feed())
    assert len(np.unique(got)) >= min(3, got.size)


def attention(
    b: Builder, mask: list[int | str] | None, heads: int, depth: int, values: int, dtype: str
) -> str:
    q = b.input("u8", ["N", "S", heads * depth], 0.02, 128)
    k = b.input("u8", ["N", "T", heads * depth], 0.03, 100)
    v = b.input("u8", ["N", "T", heads * values], 0.02, 140)
    inputs = [q, k, v, *([] if mask is None else [b.input("f32", mask)])]
    quantized = (0.01, 128) if dtype == "u8" else (None, None)
    factors = {"multiplier": float(np.float32(0.0006 / np.sqrt(depth))), "output_multiplier": 1.0}
    return b.node("attention", inputs, dtype, *quantized, heads=heads, **factors)


@pytest.mark.parametrize("mask", [None, ["N", 1, 1, "T"], ["S", "T"], ["N", 2, "S", 1]])
@pytest.mark.parametrize("dtype", ["u8", "f32"])
def test_attention(mask: list[int | str] | None, dtype: str) -> None:
    b = Builder(3)
    out = attention(b, mask, 2, 16, 24, dtype)
    program = b.finish(out)
    for queries, keys in ((1, 1), (5, 7), (53, 64), (100, 33), (70, 131), (9, 300)):
        feed = b.feed(N=2, S=queries, T=keys)
        if mask is not None:
            name = program.inputs[3]
            feed[name] = np.where(feed[name] > 0.5, np.float32(-3.4e38), np.float32(0)).astype(np.float32)
        (got,) = check_exact(program, feed)
        assert len(np.unique(got)) > 10 or queries == 1


def test_attention_of_odd_sizes() -> None:
    b = Builder(4)
    check_exact(b.finish(attention(b, None, 3, 5, 7, "u8")), b.feed(N=1, S=9, T=19))


def test_attention_where_everything_is_masked_is_zero() -> None:
    b = Builder(5)
    program = b.finish(attention(b, ["N", 1, 1, "T"], 2, 8, 8, "f32"))
    feed = b.feed(N=2, S=3, T=4)
    feed[program.inputs[3]] = np.full((2, 1, 1, 4), -np.inf, np.float32)
    (got,) = check_exact(program, feed)
    assert not got.any()


@pytest.mark.parametrize("far", [-30.0, -80.0, -81.0, -88.0, -104.0, -1e30, np.nan])
@pytest.mark.parametrize("keys", [20, 200])
def test_attention_where_most_lies_far_below_the_maximum(keys: int, far: float) -> None:
    b = Builder()
    program = b.finish(attention(b, ["N", 1, 1, "T"], 2, 8, 8, "f32"))
    feed = b.feed(N=1, S=3, T=keys)
    feed[program.inputs[3]] = np.full((1, 1, 1, keys), far, np.float32)
    feed[program.inputs[3]][..., 7] = 0.0
    check_exact(program, feed)


def test_attention_of_nothing() -> None:
    """No sequences and no queries are empty results; without keys there is nothing to attend to."""
    b = Builder(12)
    program = b.finish(attention(b, None, 2, 8, 8, "u8"))
    for sizes in ({"N": 0, "S": 3, "T": 4}, {"N": 2, "S": 0, "T": 4}):
        check_exact(program, b.feed(**sizes))
    with pytest.raises(_core.CoreError, match="has no keys"):
        core_session(program).run([np.zeros((1, n, 16), np.uint8) for n in (3, 0, 0)])


@pytest.mark.parametrize("shape", [[0, 3], [2, 0], [0, 0]])
@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_layer_norm_of_nothing(shape: list[int], dtype: str) -> None:
    b = Builder(13)
    x, scale = b.input("f32", shape), b.constant(np.ones(shape[-1], np.float32))
    quantized = (0.03, 121) if dtype == "u8" else (None, None)
    check_exact(
        b.finish(b.node("layer_norm", [x, scale], dtype, *quantized, axis=-1, epsilon=1e-5)), b.feed()
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [([2, 3, 0], [2, 0, 4]), ([0, 3, 5], [0, 5, 4]), ([3, 0, 5], [3, 5, 4]), ([4, 5], [5, 0])],
)
def test_integer_matmul_of_nothing(left: list[int], right: list[int]) -> None:
    b = Builder(14)
    x, y = b.input("u8", left, 0.1, 120), b.input("u8", right, 0.2, 133)
    out = b.node("matmul", [x, y], "u8", 0.05, 130, multiplier=0.01, offset=130.0, lo=0, hi=255)
    check_exact(b.finish(out), b.feed())


def test_attention_is_close_to_softmax() -> None:
    b = Builder(6)
    program = b.finish(attention(b, None, 2, 32, 32, "f32"))
    feed = b.feed(N=1, S=20, T=50)
    (got,) = check_exact(program, feed)
    q, k, v = (feed[name].astype(np.float64) - zero for name, zero in zip(feed, (128, 100, 140), strict=True))
    q, k, v = (x.reshape(1, -1, 2, 32).transpose(0, 2, 1, 3) for x in (q, k, v))
    s = q @ k.transpose(0, 1, 3, 2) * program.nodes[0].attributes["multiplier"]
    p = np.exp(s - s.max(-1, keepdims=True))
    expected = ((p / p.sum(-1, keepdims=True)) @ v).transpose(0, 2, 1, 3).reshape(1, 20, 64)
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert error < 0.01


@pytest.mark.parametrize("dtype", ["f32", "u8", "s64"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["s64", "s32"])
def test_gather(dtype: str, axis: int, kind: str) -> None:
    b = Builder(7)
    data = b.constant(random_array(b.rng, dtype, [5, 6, 7]))
    index = b.input(kind, ["N", "S"])
    program = b.finish(b.node("gather", [data, index], dtype, axis=axis))
    wanted = b.rng.integers(-5, 5, (2, 9)).astype(np.int64 if kind == "s64" else np.int32)
    check_exact(program, {index: wanted})


def test_gather_outside_the_data_is_an_error() -> None:
    b = Builder(8)
    index = b.input("s64", ["N"])
    program = b.finish(b.node("gather", [b.constant(np.ones((5, 3), np.float32)), index], "f32", axis=0))
    session = core_session(program)
    for wrong in (5, -6, 2**40):
        with pytest.raises(_core.CoreError, match=r"node 'n0' \(gather\): an index is outside the 5 entries"):
            session.run([np.array([0, wrong, 1])])
    (got,) = session.run([np.array([0, 4])])
    assert got.shape == (2, 3) and got.all()


def test_where() -> None:
    b = Builder(9)
    c, x, y = b.input("f32", ["N", 1, 5]), b.input("f32", [4, 5]), b.input("f32", ["N", 4, 1])
    feed = b.feed(N=3)
    feed[c] = np.round(feed[c])
    feed[c][0, 0, 0] = np.nan
    check_exact(b.finish(b.node("where", [c, x, y], "f32")), feed)


@pytest.mark.parametrize("dtype", ["f32", "u8", "s64"])
def test_expand(dtype: str) -> None:
    b = Builder(10)
    x, like = b.input(dtype, [1, 3, 1]), b.input("f32", ["N", "S"])
    fixed = b.node("expand", [x], dtype, shape=[2, 1, 1, 4])
    dynamic = b.node("expand", [x, like], dtype, shape=[1, 1, 1], like_axes=[0, -1, 1])
    check_exact(b.finish(fixed, dynamic), b.feed(N=4, S=6))


def test_slice_up_to_the_size_of_another_value() -> None:
    b = Builder(11)
    positions, like = b.constant(np.arange(24).reshape(1, 24)), b.input("f32", ["N", "S"])
    cut = b.node("slice", [positions, like], "s64", starts=[2], ends=[0], axes=[1], steps=[1], like_axes=[1])
    table = b.constant(b.rng.normal(0, 1, (24, 5)).astype(np.float32))
    program = b.finish(b.node("gather", [table, cut], "f32", axis=0))
    for length in (3, 24, 30):
        (got,) = check_exact(program, b.feed(N=2, S=length))
        assert got.shape == (1, min(length, 24) - 2, 5)
