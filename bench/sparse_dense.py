"""Sparse int8 against our own dense int8: one dense layer at batch 1, every instruction set, in turns.

    python bench/sparse_dense.py [--size 4096] [--threads 1]

Weights are drawn from a normal distribution, 1x4 blocks or single weights pruned by magnitude, then quantized
per output channel as `pyruntime compress` does. Outputs of the sparse layer are checked against the scalar
kernels before anything is timed. Prints the median times and the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import pyruntime as prt
from pyruntime import _core
from pyruntime.program import Constant, Node, Program, Value

ROUNDS = 60


def quantized(weights: np.ndarray) -> np.ndarray:
    """Symmetric s8 per output channel of f32 [O, K]."""
    scale = np.abs(weights).max(axis=1, keepdims=True) / 127
    return np.rint(weights / scale).astype(np.int8)


def pruned(weights: np.ndarray, sparsity: float, block: int) -> np.ndarray:
    """Zeroes the weakest blocks of `block` consecutive input channels."""
    blocks = weights.reshape(-1, block)
    score = np.linalg.norm(blocks, axis=1)
    keep = score >= np.quantile(score, sparsity)
    return (blocks * keep[:, None]).reshape(weights.shape)


def program(weights: np.ndarray) -> Program:
    """u8 [1, K] -> u8 [1, O]."""
    outputs, inputs = weights.shape
    multiplier = np.full(outputs, 0.5 / (74 * 40 * inputs**0.5), np.float32)
    return Program(
        name="layer",
        inputs=["x"],
        outputs=["y"],
        values={
            "x": Value("x", "u8", [1, inputs], 1.0, 128),
            "y": Value("y", "u8", [1, outputs], 1.0, 128),
        },
        constants={
            "w": Constant("w", weights),
            "m": Constant("m", multiplier),
            "o": Constant("o", np.full(outputs, 128, np.float32)),
        },
        nodes=[Node("layer", "dense", ["x", "w", "m", "o"], ["y"], {})],
    )


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(5):
        run()
    return (time.perf_counter() - start) / 5 * 1e3


def compare(weights: np.ndarray, sparse: np.ndarray, isa: str, threads: int) -> str:
    """One line: kernels, medians and the paired ratio."""
    rng = np.random.default_rng(1)
    feed = {"x": rng.integers(0, 256, (1, weights.shape[1])).astype(np.uint8)}
    options = prt.SessionOptions(num_threads=threads, isa=isa)
    dense_session = prt.InferenceSession(program(quantized(weights)), options)
    session = prt.InferenceSession(program(quantized(sparse)), options)
    expected = prt.InferenceSession(
        program(quantized(sparse)), prt.SessionOptions(num_threads=1, isa="scalar")
    ).run(None, feed)[0]
    if not np.array_equal(session.run(None, feed)[0], expected):
        raise SystemExit(f"{isa}: the sparse kernel disagrees with the scalar one")
    pairs = np.array(
        [
            (
                milliseconds(lambda: dense_session.run(None, feed)),
                milliseconds(lambda: session.run(None, feed)),
            )
            for _ in range(ROUNDS)
        ]
    )[5:]
    dense_ms, sparse_ms = np.median(pairs, axis=0)
    kernel = session.kernels()[0]["kernel"]
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    return f"{isa:12} dense {dense_ms:.3f} ms  sparse {sparse_ms:.3f} ms  {ratio:5.2f}x  {kernel}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    weights = np.random.default_rng(0).standard_normal((arguments.size, arguments.size)).astype(np.float32)
    print(
        _core.cpu_features().get("brand", ""),
        f"threads {arguments.threads}, {arguments.size}x{arguments.size}",
    )
    for name, block in (("1x4 blocks", 4), ("single weights", 1)):
        for sparsity in (0.8, 0.9, 0.95):
            print(f"{name}, {sparsity:.0%} zeros")
            sparse = pruned(weights, sparsity, block)
            for isa in prt.available_isas():
                print("  " + compare(weights, sparse, isa, arguments.threads))


if __name__ == "__main__":
    main()
