"""Random networks through the core: layouts, halos, buffer reuse and task splits in combination."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from core_programs import Builder, assert_same, check, core_session

from pyruntime import _core, reference
from pyruntime.program import Program

ISAS = _core.available_isas()


class Network:
    """Grows a random u8 convolutional network; `images` are the values a next node may read."""

    def __init__(self, seed: int) -> None:
        self.b = Builder(seed)
        rng = self.b.rng
        channels = int(rng.choice([1, 3, 4, 16]))
        height, width = (int(v) for v in rng.integers(4, 18, 2))
        x = self.b.input("f32", ["N", channels, height, width])
        y = self.b.node("quantize", [x], "u8", 0.03, int(rng.integers(0, 256)))
        self.images = [(y, channels, height, width)]

    def pick(self) -> tuple[str, int, int, int]:
        recent = self.images[-4:]
        return recent[int(self.b.rng.integers(len(recent)))]

    def push(self, name: str, channels: int, height: int, width: int) -> None:
        if height > 0 and width > 0:
            self.images.append((name, channels, height, width))

    def step(self) -> None:
        rng = self.b.rng
        grow = [
            self.conv,
            self.conv,
            self.depthwise,
            self.residual,
            self.pool,
            self.element,
            self.join,
            self.move,
        ]
        grow[int(rng.integers(len(grow)))]()

    def conv(self) -> None:
        rng = self.b.rng
        x, c, h, w = self.pick()
        kernel = tuple(int(k) for k in rng.choice([1, 1, 2, 3, 5], 2))
        strides = tuple(int(s) for s in rng.choice([1, 1, 2, 3], 2))
        pads = tuple(int(p) for p in rng.integers(0, 3, 4))
        rows = (h + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        cols = (w + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
        if rows < 1 or cols < 1:
            return
        outputs = int(rng.choice([1, 3, 8, 20, 33, 64]))
        density = float(rng.choice([1.0, 0.5, 0.1]))
        self.push(self.b.conv(x, c, outputs, kernel, strides, pads, density=density), outputs, rows, cols)

    def depthwise(self) -> None:
        x, c, h, w = self.pick()
        self.push(self.b.conv(x, c, c, (3, 3), pads=(1, 1, 1, 1), groups=c), c, h, w)

    def residual(self) -> None:
        x, c, h, w = self.pick()
        self.push(self.b.conv(x, c, c, (3, 3), pads=(1, 1, 1, 1), residual=x), c, h, w)

    def pool(self) -> None:
        x, c, h, w = self.pick()
        if h < 3 or w < 3:
            return
        value = self.b.program.values[x]
        window = {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "dilations": [1, 1]}
        rows, cols = (h - 2) // 2 + 1, (w - 2) // 2 + 1
        if self.b.rng.random() < 0.5:
            y = self.b.node("max_pool", [x], "u8", value.scale, value.zero_point, **window)
        else:
            y = self.b.node("average_pool", [x], "u8", 0.5, 20, multiplier=0.9, **window)
        self.push(y, c, rows, cols)

    def element(self) -> None:
        b = self.b
        x, c, h, w = self.pick()
        kind = int(b.rng.integers(4))
        if kind == 0:
            table = b.constant(b.rng.integers(0, 256, 256).astype(np.uint8))
            y = b.node("lut", [x, table], "u8", 0.5, 40)
        elif kind == 1:
            gate = b.node("average_pool", [x], "u8", 0.5, 20, multiplier=0.9, **{"global": 1})
            zeros = {"a_zero_point": 40, "b_zero_point": 20}
            y = b.node("mul", [x, gate], "u8", 0.5, 40, multiplier=0.01, offset=40.0, **zeros)
        elif kind == 2:
            c2 = b.constant(b.rng.integers(0, 256, (1, c, 1, 1)).astype(np.uint8))
            y = b.node("add", [x, c2], "u8", 0.5, 9, a_multiplier=0.8, b_multiplier=0.3, offset=-3.0)
        else:
            y = b.node("dequantize", [x], "f32")
            y = b.node("unary", [y], "f32", function="relu")
            y = b.node("quantize", [y], "u8", 0.7, 3)
        self.push(y, c, h, w)

    def join(self) -> None:
        x, _, h, w = self.pick()
        value = self.b.program.values[x]
        same = [
            image
            for image in self.images
            if image[2:] == (h, w)
            and (self.b.program.values[image[0]].scale, self.b.program.values[image[0]].zero_point)
            == (value.scale, value.zero_point)
        ][-3:]
        y = self.b.node("concat", [image[0] for image in same], "u8", value.scale, value.zero_point, axis=1)
        self.push(y, sum(image[1] for image in same), h, w)

    def move(self) -> None:
        b = self.b
        x, c, h, w = self.pick()
        value = b.program.values[x]
        quantization: tuple[Any, ...] = ("u8", value.scale, value.zero_point)
        kind = int(b.rng.integers(4))
        if kind == 0 and h > 2:
            y = b.node("slice", [x], *quantization, starts=[1], ends=[h], axes=[2], steps=[1])
            self.push(y, c, h - 1, w)
        elif kind == 1:
            pads = [0, 0, 1, 2, 0, 0, 0, 1]
            self.push(b.node("pad", [x], *quantization, pads=pads, mode="constant", value=5), c, h + 1, w + 3)
        elif kind == 2 and h * w < 200:
            target: dict[str, Any] = {"scales": [1.0, 1.0, 2.0, 2.0], "nearest_mode": "floor"}
            y = b.node(
                "resize",
                [x],
                *quantization,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                **target,
            )
            self.push(y, c, 2 * h, 2 * w)
        else:
            y = b.node("transpose", [x], *quantization, perm=[0, 1, 3, 2])
            self.push(y, c, w, h)

    def finish(self) -> Program:
        b = self.b
        x, c, h, w = self.images[-1]
        value = b.program.values[x]
        flat = b.node("flatten", [x], "u8", value.scale, value.zero_point, axis=1)
        weights = b.constant(b.weights(10, c * h * w))
        logits = b.node("dense", [flat, weights, *b.scales(10, c * h * w)], "f32")
        return b.finish(logits, *dict.fromkeys(image[0] for image in self.images[-3:]))


def network(seed: int, steps: int = 14) -> tuple[Builder, Program]:
    net = Network(seed)
    for _ in range(steps):
        net.step()
    return net.b, net.finish()


@pytest.mark.parametrize("seed", range(40))
def test_random_network(seed: int) -> None:
    b, program = network(seed)
    for batch in (1, 3):
        feed = b.feed(N=batch)
        results = [check(program, feed, isa, threads) for isa in ISAS for threads in (1, 2, 3)]
        for other in results[1:]:
            for first, second in zip(results[0], other, strict=True):
                assert first.tobytes() == second.tobytes()


def csp_block() -> tuple[Builder, str]:
    """Convolutions with tables, joined twice; the joined image is padded by the next convolution."""
    b = Builder(11)

    def activated(x: str, channels: int, outputs: int, **changes: Any) -> str:
        table = b.constant(b.rng.integers(0, 256, 256).astype(np.uint8))
        return b.node(
            "lut", [b.conv(x, channels, outputs, (3, 3), pads=(1, 1, 1, 1), **changes), table], "u8", 0.5, 40
        )

    x = b.node("quantize", [b.input("f32", ["N", 3, 12, 10])], "u8", 0.03, 9)
    stem = activated(x, 3, 24)
    left, right = activated(stem, 24, 20), activated(stem, 24, 1)
    inner = b.node(
        "concat", [activated(left, 20, 20, groups=20), right, activated(stem, 24, 8)], "u8", 0.5, 40, axis=1
    )
    outer = b.node("concat", [activated(stem, 24, 40), inner, stem], "u8", 0.5, 40, axis=1)
    return b, activated(outer, 40 + 29 + 24, 17)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
def test_fused_tables_and_joined_channels(isa: str, threads: int) -> None:
    b, y = csp_block()
    program = b.finish(y)
    feed = b.feed(N=2)
    (plain,) = check(program, feed, isa, threads)
    rows = core_session(program, isa).kernels()
    assert [row["kernel"] for row in rows if row["op"] == "lut"] == ["runtime:fused"] * 7
    # With every value as an output nothing is fused, and nothing changes.
    everything = b.finish(*(node.outputs[0] for node in program.nodes))
    unfused = check(everything, feed, isa, threads)
    assert unfused[-1].tobytes() == plain.tobytes()
    rows = core_session(everything, isa).kernels()
    assert "runtime:fused" not in [row["kernel"] for row in rows]


@pytest.mark.parametrize("isa", ISAS)
def test_layers_large_enough_to_be_split(isa: str) -> None:
    """Rows, columns and channels are cut into tasks; every cut gives the same bytes."""
    b = Builder(2)
    x = b.input("u8", ["N", 32, 30, 31], 0.25, 7)
    y = b.conv(x, 32, 72, (3, 3), pads=(1, 1, 1, 1))
    y = b.conv(y, 72, 72, (5, 5), pads=(2, 2, 2, 2), groups=72)
    y = b.conv(y, 72, 128, (1, 1), residual=b.conv(x, 32, 128, (1, 1)))
    z = b.node("max_pool", [y], "u8", 0.5, 11, kernel=[3, 3], strides=[7, 7], pads=[0] * 4, dilations=[1, 1])
    z = b.node("flatten", [z], "u8", 0.5, 11, axis=1)
    z = b.node("dense", [z, b.constant(b.weights(512, 2560)), *b.scales(512, 2560)], "f32")
    program = b.finish(y, z)
    feed = b.feed(N=1)
    single = check(program, feed, isa, 1)
    for threads in (2, 3, 5):
        for first, second in zip(single, check(program, feed, isa, threads), strict=True):
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2])
def test_wide_pixels(isa: str, threads: int) -> None:
    """Pixels of 4096 bytes and more, as int8 and float, through every kind of operator that meets them."""
    b = Builder(6)
    x = b.input("u8", ["N", 4, 3, 5], 0.25, 7)
    wide = b.conv(x, 4, 4096, (1, 1))
    deep = b.conv(wide, 4096, 4096, (3, 3), pads=(1, 1, 1, 1), groups=4096, residual=wide)
    table = b.constant(b.rng.integers(0, 256, 256).astype(np.uint8))
    joined = b.node("concat", [deep, b.node("lut", [wide, table], "u8", 0.5, 11)], "u8", 0.5, 11, axis=1)
    pooled = b.node(
        "max_pool",
        [joined],
        "u8",
        0.5,
        11,
        kernel=[2, 2],
        strides=[1, 1],
        pads=[0, 1, 1, 0],
        dilations=[1, 1],
    )
    real = b.node("dequantize", [b.conv(pooled, 8192, 1024, (1, 1))], "f32")
    weights, bias = (
        b.rng.normal(0, 0.001, shape).astype(np.float32) for shape in ((1024, 1024, 1, 1), (1024,))
    )
    settings = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "groups": 1}
    y = b.node("conv", [real, b.constant(weights), b.constant(bias), real], "f32", **settings)
    y = b.node("unary", [b.node("add", [y, real], "f32")], "f32", function="relu")
    program, feed = b.finish(y), b.feed(N=2)
    check(program, feed, isa, threads)
    check(b.finish(*(node.outputs[0] for node in b.program.nodes)), feed, isa, threads)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [80, 160, 192, 224, 400])
def test_layers_split_along_channels(isa: str, channels: int) -> None:
    """Few pixels, many weights: tasks take ranges of output channels, which must not disturb each other."""
    b = Builder(3)
    x = b.input("u8", ["N", channels, 3, 3], 0.25, 7)
    y = b.conv(x, channels, channels, (3, 3), pads=(1, 1, 1, 1))
    program = b.finish(b.conv(y, channels, channels, (3, 3), pads=(1, 1, 1, 1), residual=x))
    feed = b.feed(N=1)
    for threads in (1, 2, 3, 4):
        check(program, feed, isa, threads)


def with_four_bits(program: Program) -> Program:
    """The program with integer weights made levels of 4 bits times a multiplier of each output channel."""
    rng = np.random.default_rng(5)
    for constant in program.constants.values():
        if constant.array.dtype == np.int8:
            multipliers = rng.integers(1, 17, (len(constant.array), *[1] * (constant.array.ndim - 1)))
            constant.array = ((constant.array >> 4) * multipliers).astype(np.int8)
    return program


@pytest.mark.parametrize("weight_format", ["dense", "winograd", "int4", "block4", "bitmask"])
@pytest.mark.parametrize("seed", range(4))
def test_weight_formats_agree(seed: int, weight_format: str) -> None:
    b, program = network(100 + seed)
    if weight_format == "int4":
        with_four_bits(program)
    check(program, b.feed(N=2), weight_format=weight_format)


@pytest.mark.parametrize("isa", ISAS)
def test_four_bits_run_as_such_where_weights_outweigh_pixels(isa: str) -> None:
    """A large layer of one pixel takes the row of 4 bits if its weights fit, a small one of many does not."""
    formats = {row["name"]: row["format"] for row in _core.registry()}

    def format_of(channels: int, height: int, fits: bool) -> str:
        b = Builder()
        x = b.input("u8", ["N", channels, height, height], 0.25, 7)
        program = b.finish(b.conv(x, channels, channels, (1, 1)))
        session = core_session(with_four_bits(program) if fits else program, isa, 1)
        check(program, b.feed(N=1), isa, 2)
        return str(formats[session.kernels()[0]["kernel"]])

    assert format_of(1024, 1, fits=True) == ("dense" if isa == "scalar" else "int4")
    assert format_of(1024, 1, fits=False) == "dense"
    assert format_of(16, 9, fits=True) == "dense"


def test_forced_format_runs_what_it_says() -> None:
    b = Builder()
    x = b.input("u8", ["N", 64, 12, 12], 0.25, 7)
    program = b.finish(b.conv(x, 64, 64, (3, 3), density=0.2))
    rows = [row for row in _core.registry() if row["family"] == "conv_int8"]
    formats = {row["name"]: row["format"] for row in rows if row["usable"]}
    for wanted in sorted(set(formats.values())):
        if wanted == "int4":
            with_four_bits(program)
        (row,) = core_session(program, weight_format=wanted).kernels()
        assert formats[row["kernel"]] == wanted
        assert row["precision"] == ("int8" if wanted in ("dense", "winograd") else f"int8 ({wanted})")


@pytest.mark.parametrize("kept, precision", [(1 / 32, "int8 (block4)"), (1.0, "int8")])
@pytest.mark.parametrize("isa", ISAS)
def test_zeros_of_long_rows_are_counted(isa: str, kept: float, precision: str) -> None:
    """What weights a layer has decides what runs it; here a few thousand to an output."""
    b = Builder(6)
    x = b.input("u8", ["N", 9000], 0.25, 7)
    w = b.weights(64, 9000)
    w.reshape(64, -1, 4)[b.rng.random((64, 9000 // 4)) >= kept] = 0
    program = b.finish(b.node("dense", [x, b.constant(w), *b.scales(64, 9000)], "f32"))
    (row,) = core_session(program, isa).kernels()
    assert row["precision"] == precision
    check(program, b.feed(), isa)


@pytest.mark.parametrize("weight_format", ["dense", "winograd", "int4", "block4"])
@pytest.mark.parametrize("isa", ISAS)
def test_vnni_of_256_bits_runs_under_its_own_cap_alone(isa: str, weight_format: str) -> None:
    """AVX-512 has rows of twice the width, and the costs of the others are in cycles of another core."""
    b = Builder(8)
    x = b.input("u8", ["N", 64, 14, 14], 0.25, 7)
    program = b.finish(b.conv(x, 64, 64, (3, 3), pads=(1, 1, 1, 1)))
    if weight_format == "int4":
        with_four_bits(program)
    (row,) = core_session(program, isa, weight_format=weight_format).kernels()
    assert (row["isa"] == "avxvnni") == (isa == "avxvnni")
    check(program, b.feed(), isa)


@pytest.mark.parametrize("weight_format", ["auto", "block4", "bitmask"])
@pytest.mark.parametrize("isa", ISAS)
def test_more_blocks_than_16_bits_number(isa: str, weight_format: str) -> None:
    """Lists of sparse rows number blocks in 16 bits: those of 65,552 blocks must not be taken."""
    b = Builder(6)
    inputs = 4 * 65536 + 64
    x = b.input("u8", ["N", inputs], 0.25, 7)
    w = b.weights(16, inputs)
    w[:, 8 : 4 * 65536 + 8] = 0
    program = b.finish(b.node("dense", [x, b.constant(w), *b.scales(16, 56)], "f32"))
    for batch in (1, 24):
        check(program, b.feed(N=batch), isa, weight_format=weight_format)


def test_weights_whose_sum_leaves_32_bits() -> None:
    """255 times the magnitudes of an output may be 2^31 - 1 at most: 65793 weights of -128."""

    def layer(weights: int) -> tuple[Builder, Program]:
        b = Builder()
        x = b.input("u8", [1, weights], 0.25, 7)
        w = b.constant(np.full((2, weights), -128, np.int8))
        return b, b.finish(b.node("dense", [x, w, *b.scales(2, weights)], "f32"))

    b, program = layer(65793)
    check(program, b.feed())
    with pytest.raises(_core.CoreError, match="output channel 0 can overflow"):
        core_session(layer(65794)[1])


def test_concurrent_runs_of_different_shapes() -> None:
    """One session, eight threads, other batch sizes: results equal those of single runs."""
    b, program = network(7)
    session = core_session(program, threads=2)
    feeds = [b.feed(N=1 + i % 3) for i in range(8)]
    expected = [reference.run(program, feed) for feed in feeds]
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(20):
                results = session.run([feeds[index][name] for name in program.inputs])
                for name, got in zip(program.outputs, results, strict=True):
                    assert_same(got, expected[index][name], name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_many_shapes_reuse_a_bounded_number_of_plans() -> None:
    b, program = network(3)
    session = core_session(program)
    for batch in [*range(1, 25), *range(1, 25)]:
        feed = b.feed(N=batch)
        results = session.run([feed[name] for name in program.inputs])
        if batch in (1, 20):
            expected = reference.run(program, feed)
            for name, got in zip(program.outputs, results, strict=True):
                assert_same(got, expected[name], name)


def test_profile_adds_up_and_names_every_node() -> None:
    b, program = network(5)
    session = core_session(program, threads=2, profiling=True)
    feed = b.feed(N=2)
    for _ in range(3):
        session.run([feed[name] for name in program.inputs])
    rows = session.profile()
    assert [row["node"] for row in rows if row["op"] not in ("copy", "other")] == [
        n.name for n in program.nodes
    ]
    assert all(row["calls"] == 3 for row in rows if row["op"] != "copy")
    assert all(row["microseconds"] >= 0 for row in rows)
    assert rows[-1]["op"] == "other"


def test_kernels_reports_every_node() -> None:
    _, program = network(5)
    for isa in ISAS:
        rows = core_session(program, isa).kernels()
        assert [row["node"] for row in rows] == [node.name for node in program.nodes]
        names = {row["name"]: row["isa"] for row in _core.registry()}
        for row in rows:
            assert names.get(row["kernel"], "scalar") == row["isa"]
            assert row["kernel"] in names or row["kernel"].startswith("runtime:")
            assert ISAS.index(row["isa"]) <= ISAS.index(isa)
            assert (row["bytes"] > 0) == (row["op"] in ("conv", "dense"))
