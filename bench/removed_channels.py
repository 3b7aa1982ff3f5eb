"""Latency of networks that lost channels against the dense ones, batch 1, in turns.

    python bench/removed_channels.py [--macs 0.5] [--round-to 8] [--quantize int8] [--threads 2]

Takes ResNet-20 and VGG-small of bench/models with half of the multiply-accumulates removed, as the rows of
docs/results.md do (bench/accuracy), without recovery, which does not change what runs. Each turn takes the
median of several runs, since the first one after a change of network finds the caches full of the other's
weights. Prints the medians of the turns and of their ratios.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import pyruntime as prt

MODELS = Path(__file__).parent / "models"
NETWORKS = ("resnet_20", "vgg_small")
ROUNDS = 40
RUNS = 20  # of a turn


def session(network: str, recipe: dict[str, object], threads: int) -> tuple[prt.InferenceSession, float]:
    """The compressed network, and its multiply-accumulates as a part of the dense one's."""
    images = np.random.default_rng(0).normal(size=(64, 1, 28, 28)).astype(np.float32)
    model = prt.compress(MODELS / f"fashion_{network}.onnx", recipe, {"input": images})
    report = model.report.prune
    part = 1.0 if report is None else report.macs_after / report.macs_before
    return prt.InferenceSession(model.program, prt.SessionOptions(num_threads=threads)), part


def milliseconds(run: prt.InferenceSession, image: np.ndarray) -> float:
    """Median over a turn."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run.run(None, {"input": image})
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of networks that lost channels.")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--round-to", type=int, default=8)
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    image = np.random.default_rng(1).normal(size=(1, 1, 28, 28)).astype(np.float32)
    for network in NETWORKS:
        recipe = {"quantize": options.quantize, "recover": []}
        prune = f"filter,macs={options.macs},criterion=obs,round_to={options.round_to}"
        removed = {"prune": [prune], **recipe}
        (dense, _), (small, part) = (session(network, words, options.threads) for words in (recipe, removed))
        pairs = np.array([(milliseconds(small, image), milliseconds(dense, image)) for _ in range(ROUNDS)])
        few, all_of = np.median(pairs, axis=0)
        ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
        print(
            f"{network}, {options.quantize}: {part:.2f} of the MACs, {few:.3f} ms against {all_of:.3f} ms, "
            f"ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
