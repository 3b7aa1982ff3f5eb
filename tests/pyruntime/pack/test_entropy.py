"""Entropy-coded blocks: the core against the plain decoder, sizes, damage."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from pyruntime import _core
from pyruntime.pack import entropy
from pyruntime.pack.entropy import model, reference
from pyruntime.pack.entropy.model import Settings, best_settings, code_bits, flag_states, head, scaled

# Rows, columns, and at most how many of the rows are decoded side by side.
CASES = [
    (1, 1, 8),
    (1, 150, 8),
    (3, 17, 8),
    (8, 20, 8),
    (20, 9, 8),
    (13, 30, 16),
    (35, 66, 16),
    (27, 5, 32),
    (41, 33, 32),
]
ISAS = [name for name in _core.available_isas() if name in ("scalar", "avx2")]


def weights(kind: str, shape: tuple[int, int], bits: int = 4, seed: int = 0) -> np.ndarray:
    """Codes as u8: rows and columns of different spread, zeros as `kind` says."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    x = rng.normal(size=shape) * rng.uniform(0.3, 1.5, (rows, 1)) * rng.uniform(0.2, 1.5, (1, columns))
    codes = np.rint(x / np.abs(x).max(axis=1, keepdims=True) * (2 ** (bits - 1) - 1)).astype(np.int8)
    if kind == "sparse":
        codes[np.abs(x) < np.quantile(np.abs(x), 0.9)] = 0
    elif kind == "blocks":
        codes *= np.repeat(rng.random((rows, -(-columns // 4))) < 0.15, 4, axis=1)[:, :columns]
    elif kind == "zero":
        codes[:] = 0
    elif kind == "bytes":
        codes = rng.integers(-128, 128, shape).astype(np.int8)
    return codes.view(np.uint8)


def settings_of(symbols: np.ndarray, mode: str, row_bits: int, column_bits: int) -> Settings:
    rng = np.random.default_rng(1)
    rows, columns = symbols.shape
    base = Settings(
        rng.integers(0, 1 << row_bits, rows),
        rng.integers(0, 1 << column_bits, columns),
        row_bits,
        column_bits,
    )
    flags = {"split": "split" in mode or "states" in mode, "states": "states" in mode}
    return replace(base, **flags, shared="shared" in mode, signed="signed" in mode)


@pytest.mark.parametrize(
    "mode", ["", "shared signed", "split", "split shared", "states signed", "states shared"]
)
@pytest.mark.parametrize("kind", ["dense", "sparse", "blocks", "zero", "bytes"])
def test_core_and_plain_decoder_agree(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for (*shape, lanes), (row_bits, column_bits) in itertools.product(CASES, ((0, 0), (2, 1), (0, 4))):
        monkeypatch.setattr(model, "LEAST_LANES", lanes)
        symbols = weights(kind, (shape[0], shape[1]))
        settings = settings_of(symbols, mode, row_bits, column_bits)
        block = _core.entropy.encode(head(symbols, settings), symbols)
        for isa in ISAS:
            np.testing.assert_array_equal(_core.entropy.decode(block, *shape, None, isa), symbols)
        if symbols.size < 1000 or (row_bits, column_bits) == (2, 1):  # it takes its time
            np.testing.assert_array_equal(reference.decode(block, *shape), symbols)


def test_more_coders_where_they_cost_little() -> None:
    assert [model.lanes(64, bits) for bits in (0, 1e5, 1.3e5, 3.8e5, 3.9e5, 1e9)] == [8, 8, 16, 16, 32, 32]
    assert [model.lanes(rows, 1e9) for rows in (1, 5, 24, 100)] == [1, 5, 24, 32]


@pytest.mark.parametrize("isa", ISAS)
def test_fuzzed_streams(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and states drawn at random behind a valid head: every instruction set gives the same verdict."""
    rng = np.random.default_rng(5)
    for lanes, mode in itertools.product((5, 8, 16, 20, 32), ("", "split shared", "states signed")):
        monkeypatch.setattr(model, "LEAST_LANES", lanes)
        symbols = weights("sparse" if mode else "dense", (37, 70))
        start = head(symbols, settings_of(symbols, mode, 1, 2))
        coded = _core.entropy.encode(start, symbols)
        for size in (0, 4 * lanes, 4 * lanes + 2, 500, 5000):
            drawn = np.concatenate([start, rng.integers(0, 256, size, np.uint8)])
            mixed = coded.copy()
            mixed[start.size + 4 * lanes + 10 :] ^= np.uint8(0x5A)
            for block in (drawn, mixed, coded[: coded.size - 2 * int(rng.integers(1, 9))]):
                assert _verdict(_core.entropy.decode, block, symbols.shape, isa) is None


def test_estimate_is_the_size() -> None:
    for kind in ("dense", "sparse", "blocks"):
        symbols = weights(kind, (64, 300))
        settings = best_settings(symbols, True)
        block = _core.entropy.encode(head(symbols, settings), symbols)
        assert abs(code_bits(symbols, settings, 64) / 8 - block.size) < 0.01 * block.size + 20


def test_classes_beat_independent_symbols() -> None:
    symbols = weights("dense", (256, 512))
    counts = np.unique(symbols, return_counts=True)[1]
    independent = -(counts * np.log2(counts / symbols.size)).sum() / 8
    block = entropy.compress(symbols, signed=True)
    assert block is not None and block.size < 0.95 * independent
    uniform = np.random.default_rng(0).integers(0, 16, (256, 512)).astype(np.uint8)
    block = entropy.compress(uniform)
    assert block is not None and block.size < uniform.size / 2 * 1.01


def test_flags_of_blocks_cost_next_to_nothing() -> None:
    """1x4 blocks at 15 %: one flag a block, not one a weight."""
    symbols = weights("blocks", (256, 512), bits=8)
    block = entropy.compress(symbols, signed=True)
    assert block is not None
    flags = 0.61 / 4 * symbols.size / 8  # the entropy of 15 % is 0.61 bits
    assert block.size < flags * 1.1 + np.count_nonzero(symbols) * 7 / 8


def test_large_matrices_are_tried_on_a_sample() -> None:
    symbols = weights("sparse", (1200, 700))
    block = entropy.compress(symbols, signed=True)
    assert block is not None
    np.testing.assert_array_equal(entropy.decompress(block, *symbols.shape), symbols)


def test_states_of_flags() -> None:
    row = np.array([[1, 0, 1, 0, 0, 0, 0, 0, 0, 1]], bool)
    assert flag_states(row).tolist() == [[0, 3, 5, 9, 1, 2, 4, 7, 0, 2]]


def test_frequencies_add_up() -> None:
    for weights_ in ([1], [1, 1, 1], [7168, 1, 0, 1], [1] * 256, [3, 7168] + [1] * 254):
        frequency = scaled(np.array(weights_))
        assert frequency.sum() == 4096
        assert ((frequency > 0) == (np.array(weights_) > 0)).all()


def test_nothing_to_code() -> None:
    assert entropy.compress(np.zeros((0, 4), np.uint8)) is None
    assert entropy.compress(np.zeros((4096, 4096), np.uint8)) is None  # its size would be unbelievable


def test_head_that_does_not_fit_the_symbols() -> None:
    symbols = weights("dense", (8, 20))
    start = head(symbols, settings_of(symbols, "", 0, 0))
    other = symbols.copy()
    other[3, 4] = 100
    with pytest.raises(_core.CoreError, match="no room for a symbol"):
        _core.entropy.encode(start, other)
    with pytest.raises(_core.CoreError, match="longer than it says"):
        _core.entropy.encode(np.append(start, np.uint8(0)), symbols)


def _verdict(
    decode: object, block: np.ndarray, shape: tuple[int, ...], isa: str | None = None
) -> np.ndarray | None:
    try:
        return decode(block, *shape, *(() if isa is None else (None, isa)))  # type: ignore[operator]
    except (ValueError, _core.CoreError):
        return None


@pytest.mark.parametrize("lanes", [8, 32])
def test_damage_is_found_or_harmless(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut, or with a bit flipped: core and plain decoder say the same, and nothing crashes."""
    monkeypatch.setattr(model, "LEAST_LANES", lanes)
    rng = np.random.default_rng(0)
    refused = tried = 0
    for kind, mode in (("dense", ""), ("sparse", "split shared"), ("blocks", "states signed")):
        symbols = weights(kind, (9, 24) if lanes == 8 else (18, 13))
        block = _core.entropy.encode(head(symbols, settings_of(symbols, mode, 1, 2)), symbols)
        damaged = [block[:size] for size in range(0, block.size, 3)]
        damaged.append(np.append(block, np.zeros(2, np.uint8)))
        for bit in rng.permutation(block.size * 8)[:120]:
            flipped = block.copy()
            flipped[bit // 8] ^= 1 << (bit % 8)
            damaged.append(flipped)
        for candidate in damaged:
            plain = _verdict(reference.decode, candidate, symbols.shape)
            for isa in ISAS:
                ours = _verdict(_core.entropy.decode, candidate, symbols.shape, isa)
                assert (ours is None) == (plain is None)
                if ours is not None:
                    np.testing.assert_array_equal(ours, plain)
            tried, refused = tried + 1, refused + (plain is None)
    assert refused > 0.9 * tried


def test_absurd_sizes_are_refused_before_memory_is_taken() -> None:
    block = entropy.compress(weights("zero", (8, 20)))
    assert block is not None
    for rows, columns in ((2**20, 2**19), (0, 5), (5, 0)):
        with pytest.raises(ValueError, match="cannot hold"):
            entropy.decompress(block, rows, columns)
    with pytest.raises(ValueError, match="expected uint8"):
        entropy.decompress(block.astype(np.int32), 8, 20)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["dense", "sparse", "blocks"])
def test_decodes_fast_enough(kind: str, isa: str) -> None:
    """AVX2 400 MB/s on an idle core, without it 150; a loaded machine gets a quarter of that here."""
    symbols = weights(kind, (512, 1152))
    block = entropy.compress(symbols, signed=True)
    assert block is not None
    best = np.inf
    for _ in range(5):
        start = time.thread_time()
        _core.entropy.decode(block, *symbols.shape, None, isa)
        best = min(best, time.thread_time() - start)
    assert symbols.size / best > (100e6 if isa == "avx2" else 35e6)
