from __future__ import annotations

import time

import numpy as np
import pytest

from pyruntime.minifloat import find_format
from pyruntime.numerics import hashed_positions
from pyruntime.pack.codecs import CODECS, layout, smallest, stored
from pyruntime.quantize.schemes.small_float import SmallFloat

SHAPES = [(8, 16), (5, 7), (6, 5, 3, 3), (4, 8, 1, 1), (3, 1, 3, 3), (2, 6, 5), (1, 4), (9, 3, 7, 7)]


def _weights(kind: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    array = rng.integers(-127, 128, shape).astype(dtype)
    channels_last = np.moveaxis(array, 1, -1)
    if kind == "random":
        array[rng.random(shape) < 0.9] = 0
    elif kind == "blocks":
        for start in range(0, shape[1], 4):
            channels_last[rng.random(channels_last.shape[:-1]) < 0.8, start : start + 4] = 0
    elif kind == "2:4":
        for start in range(0, shape[1], 4):
            block = channels_last[..., start : start + 4]
            order = np.argsort(rng.random(block.shape), axis=-1)
            block[order >= 2] = 0
    elif kind == "zero":
        array[...] = 0
    return array


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("kind", ["dense", "random", "blocks", "2:4", "zero"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(shape: tuple[int, ...], kind: str, dtype: type) -> None:
    array = _weights(kind, shape, dtype)
    applied = set()
    for name, codec in CODECS.items():
        encoded = codec.encode(array, {})
        if encoded is None:
            continue
        applied.add(name)
        decoded = codec.decode(encoded[0], array.dtype, array.shape, encoded[1])
        assert decoded.dtype == array.dtype
        assert decoded.flags.c_contiguous or np.moveaxis(decoded, 1, -1).flags.c_contiguous
        np.testing.assert_array_equal(decoded, array)
    wanted = {"dense", "bitmask", "block4", "packed" if dtype == np.int8 else "planes"}
    assert applied == wanted | ({"nm2_4"} if "nm2_4" in applied else set())
    assert "nm2_4" in applied or kind not in ("2:4", "zero")


@pytest.mark.parametrize("shape", [*SHAPES, (64, 100)], ids=str)
@pytest.mark.parametrize("size", [2, 5, 32])
def test_groups(shape: tuple[int, ...], size: int) -> None:
    rng = np.random.default_rng(0)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    multipliers = rng.integers(1, 17, (rows, -(-columns // size)))
    values = rng.integers(-7, 8, (rows, columns)) * np.repeat(multipliers, size, axis=1)[:, :columns]
    array = layout.from_matrix(values.astype(np.int8), shape)
    encoded = CODECS["group"].encode(array, {"group": size})
    assert encoded is not None
    np.testing.assert_array_equal(CODECS["group"].decode(encoded[0], array.dtype, shape, encoded[1]), array)
    if shape == (64, 100) and size == 32:
        assert smallest(array, {"group": size})[0] == "group"
        assert layout.total_bytes(encoded[0]) < array.size * 0.55


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("shape", [*SHAPES, (64, 100)], ids=str)
def test_hashed(shape: tuple[int, ...], density: float) -> None:
    rng = np.random.default_rng(0)
    count = int(np.prod(shape))
    size = max(1, count // 4)
    index, sign = hashed_positions(count, size)
    values = sign * rng.integers(-127, 128, size)[index] * (rng.random(count) < density)
    array = np.ascontiguousarray(layout.from_matrix(values.astype(np.int8).reshape(shape[0], -1), shape))
    encoded = CODECS["hashed"].encode(array, {"hashed": size})
    assert encoded is not None
    np.testing.assert_array_equal(CODECS["hashed"].decode(encoded[0], array.dtype, shape, encoded[1]), array)
    if shape == (64, 100) and density == 1:
        assert smallest(array, {"hashed": size})[0] == "hashed"
        assert layout.total_bytes(encoded[0]) < size + 20
    elsewhere = np.abs(array.astype(np.int16)).argmax()
    array.reshape(-1)[elsewhere] ^= 1
    if size > 1 and density == 1:
        assert CODECS["hashed"].encode(array, {"hashed": size}) is None


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "fp:2.1", "fp:3.2", "fp16", "bf16", "fp:4.8"])
@pytest.mark.parametrize("shape", [(5, 7), (6, 5, 3, 3), (40, 30, 3, 3)], ids=str)
def test_small_floats(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(shape[0], 1, int(np.prod(shape[1:])))) * rng.uniform(1e-3, 10, (shape[0], 1, 1))
    weight[1] = 0
    array = layout.from_matrix(SmallFloat(name).fit(weight).round(weight[:, 0]), shape)
    encoded = CODECS["float"].encode(array, {"float": name})
    assert encoded is not None
    np.testing.assert_array_equal(CODECS["float"].decode(encoded[0], array.dtype, shape, encoded[1]), array)
    bits = 8 * layout.total_bytes(smallest(array, {"float": name})[1][0]) / array.size
    assert array.size < 1000 or bits < find_format(name).bits + 0.1
    array.reshape(-1)[3] *= np.float32(1 + 2.0**-20)
    assert CODECS["float"].encode(array, {"float": name}) is None


@pytest.mark.parametrize("storage", [{}, {"group": 4}, {"hashed": 90}], ids=str)
def test_scaled(storage: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    index, sign = hashed_positions(16 * 36, 90)
    codes = (sign * rng.integers(-20, 21, 90)[index]).astype(np.int8).reshape(16, 4, 3, 3)
    codes = layout.from_matrix(codes.reshape(16, -1), codes.shape)
    scales = rng.uniform(1e-3, 1, 16).astype(np.float32)
    array = codes.astype(np.float32) * scales.reshape(-1, 1, 1, 1)
    given = {"codes": codes, "scales": scales, **storage}
    codec, (parts, options) = smallest(array, given)
    assert codec == "scaled"
    np.testing.assert_array_equal(CODECS["scaled"].decode(parts, array.dtype, array.shape, options), array)
    assert options["codes"] == ("hashed" if "hashed" in storage else "packed")
    assert CODECS["scaled"].encode(array * np.float32(1.5), given) is None


def test_smallest_suits_the_values() -> None:
    shape = (64, 64, 3, 3)
    for kind in ("dense", "random", "blocks", "2:4"):
        array = _weights(kind, shape, np.int8)
        codec, (parts, _) = smallest(array, {})
        assert codec == ("dense" if kind == "dense" else "packed")
        sizes = [CODECS[name].encode(array, {}) for name in ("dense", "bitmask", "block4", "nm2_4")]
        assert layout.total_bytes(parts) <= min(layout.total_bytes(s[0]) for s in sizes if s is not None)


def test_few_bits_take_few_bits() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-1, 1), (-7, 7), (0, 3), (-63, 63)):
        array = rng.integers(low, high + 1, (64, 64)).astype(np.int8)
        _, (parts, _) = smallest(array, {})
        assert 8 * layout.total_bytes(parts) / array.size < np.log2(high - low + 1) + 0.15
    table = rng.integers(-127, 128, 16).astype(np.int8)
    _, (parts, _) = smallest(table[rng.integers(0, 16, (64, 64))], {})
    assert layout.total_bytes(parts) < 64 * 64 / 2 + 60


def test_vectors_scalars_and_wide_integers() -> None:
    for array in (np.zeros(16, np.float32), np.zeros((), np.float32), np.zeros((4, 4), np.int32)):
        codec, (parts, options) = smallest(array, {})
        np.testing.assert_array_equal(CODECS[codec].decode(parts, array.dtype, array.shape, options), array)
    rng = np.random.default_rng(0)
    for array in (rng.integers(-3, 4, 1001).astype(np.int8), rng.uniform(1e-3, 1e-2, 500).astype(np.float32)):
        codec, (parts, options) = smallest(array, {})
        assert codec == ("packed" if array.dtype == np.int8 else "planes")
        np.testing.assert_array_equal(CODECS[codec].decode(parts, array.dtype, array.shape, options), array)


def test_zeros_among_floats_cost_little_more_than_their_flags() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40_000).astype(np.float32)
    whole = smallest(values, {})[1][0]
    values[::4] = 0
    pruned = smallest(values, {})[1][0]
    # The entropy of a flag that is set in a quarter of the cases is 0.81 bits.
    wanted = 0.75 * layout.total_bytes(whole) + 40_000 * 0.81 / 8
    assert layout.total_bytes(pruned) < 1.08 * wanted


def test_fixed_width_where_coding_does_not_pay() -> None:
    array = np.array([[1, -100, 100], [1, 1, -100]], np.int8)
    data = stored.store(array)
    assert data[0] == stored.TABLE and data.size == 2 + 3 + 2
    np.testing.assert_array_equal(stored.load(data, 2, 3).view(np.int8), array)
    for broken, found in (
        (data[:-1], "too many or too few"),
        (np.append(data, np.uint8(0)), "too many or too few"),
        (np.where(np.arange(data.size) == 0, 9, data).astype(np.uint8), "of kind 9"),
        (np.where(np.arange(data.size) == 5, 255, data).astype(np.uint8), "beyond the 3 values"),
        (data[:1], "expected uint8"),
        (data.astype(np.float32), "expected uint8"),
    ):
        with pytest.raises(ValueError, match=found):
            stored.load(broken, 2, 3)
    interval = stored.store(np.array([[-1, 0, 1, -1]], np.int8))
    assert interval.tolist() == [stored.INTERVAL, 255, 1, 0b00100100]
    assert stored.load(interval, 1, 4).view(np.int8).tolist() == [[-1, 0, 1, -1]]
    one = stored.store(np.full((2, 3), 5, np.int8))
    with pytest.raises(ValueError, match="too many or too few"):
        stored.load(one, 2**20, 2**19)


@pytest.mark.parametrize("value", [0, -3])
@pytest.mark.parametrize("shape", [(256, 2304), (1, 3 << 16), (3, (1 << 16) + 1), (2048, 4096)], ids=str)
def test_large_matrices_of_one_value(shape: tuple[int, int], value: int) -> None:
    array = np.full(shape, value, np.int8)
    data = stored.store(array)
    assert data.size == max(3, -(-array.size // 65536))
    np.testing.assert_array_equal(stored.load(data, *shape).view(np.int8), array)
    for broken in (data[:-1], np.append(data, np.uint8(0))):
        with pytest.raises(ValueError, match=r"too many or too few|expected uint8|cannot hold"):
            stored.load(broken, *shape)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_large_layers_of_zeros(dtype: type) -> None:
    """A branch that starts at zero and was never trained."""
    array = np.zeros((512, 256, 3, 3), dtype)
    for name, codec in CODECS.items():
        encoded = codec.encode(array, {})
        if encoded is not None:
            decoded = codec.decode(encoded[0], array.dtype, array.shape, encoded[1])
            np.testing.assert_array_equal(decoded, array, err_msg=name)


NESTED = {
    "packed": ({}, {}),
    "group": ({"group": 8}, {"group": 0}),
    "hashed": ({"hashed": 30}, {"size": 2**40}),
    "float": ({"float": "fp8_e4m3"}, {"float": "fp64"}),
    "scaled": ({}, {"codes": "zip"}),
    "planes": ({}, {}),
}


@pytest.mark.parametrize("name", NESTED)
def test_damaged_parts_and_options_are_refused_or_decoded(name: str) -> None:
    """Whatever is damaged, the answer is an array of the right kind or a ValueError."""
    rng = np.random.default_rng(0)
    index, sign = hashed_positions(12 * 20, 30)
    codes = (sign * rng.integers(-7, 8, 30)[index]).astype(np.int8).reshape(12, 20)
    scales = np.full(12, 0.5, np.float32)
    array = codes if name in ("packed", "group", "hashed") else codes.astype(np.float32) * np.float32(0.5)
    storage, bad = NESTED[name]
    encoded = CODECS[name].encode(array, {**storage, "codes": codes, "scales": scales})
    assert encoded is not None
    parts, options = encoded
    if bad:
        for broken in (bad, {}, {key: [] for key in bad}):
            with pytest.raises(ValueError, match=r"."):
                CODECS[name].decode(parts, array.dtype, array.shape, {**broken} if broken != bad else bad)
    for part in parts:
        with pytest.raises(ValueError, match=r"."):
            CODECS[name].decode({k: v for k, v in parts.items() if k != part}, array.dtype, (12, 20), options)
        for _ in range(60):
            damaged = parts[part].copy()
            damaged[rng.integers(damaged.size)] ^= 1 << rng.integers(8)
            damaged = damaged[: rng.integers(damaged.size)] if rng.random() < 0.2 else damaged
            try:
                found = CODECS[name].decode({**parts, part: damaged}, array.dtype, (12, 20), options)
            except ValueError:
                continue
            assert found.dtype == array.dtype and found.shape == array.shape
    for dtype, shape in ((np.int32, (12, 20)), (array.dtype, (2**20, 2**19)), (array.dtype, (13, 20))):
        if name == "hashed" and shape == (13, 20):
            continue  # a vector makes as many weights as asked for
        with pytest.raises(ValueError, match=r"."):
            CODECS[name].decode(parts, np.dtype(dtype), shape, options)


def _broken(name: str, change: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    array = np.zeros((3, 5, 3), np.int8)
    array[:, ::3, 1] = 7
    encoded = CODECS[name].encode(array, {})
    assert encoded is not None
    parts = encoded[0]
    if change == "missing":
        parts.pop(max(parts))
    elif change == "short":
        parts["values"] = parts["values"][:-1]
    elif change == "dtype":
        parts["values"] = parts["values"].astype(np.float32)
    elif change == "shape":
        first = "index" if name == "nm2_4" else "mask"
        parts[first] = parts[first][:, :-1]
    elif change == "bits":
        first = "index" if name == "nm2_4" else "mask"
        parts[first] = parts[first].copy()
        parts[first][0, -1] |= 0 if name == "nm2_4" else 0x80
        parts[first][0, 0] = 0 if name == "nm2_4" else parts[first][0, 0]
    return parts, array


@pytest.mark.parametrize("change", ["missing", "short", "dtype", "shape", "bits"])
@pytest.mark.parametrize("name", ["bitmask", "block4", "nm2_4"])
def test_refuses_parts_that_do_not_fit(name: str, change: str) -> None:
    parts, array = _broken(name, change)
    with pytest.raises(ValueError, match=r"."):
        CODECS[name].decode(parts, array.dtype, array.shape, {})


@pytest.mark.parametrize("name", ["bitmask", "block4", "nm2_4"])
def test_decodes_fast_enough(name: str) -> None:
    """The design asks for 200 MB/s of dense int8; a loaded machine gets a tenth of that here."""
    array = _weights(
        {"bitmask": "random", "block4": "blocks", "nm2_4": "2:4"}[name], (512, 256, 3, 3), np.int8
    )
    encoded = CODECS[name].encode(array, {})
    assert encoded is not None
    parts = encoded[0]
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        CODECS[name].decode(parts, array.dtype, array.shape, {})
        best = min(best, time.perf_counter() - start)
    assert array.nbytes / best > 20e6
