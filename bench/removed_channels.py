"""Latency of networks that lost channels against the dense ones, batch 1, in turns.

    python bench/removed_channels.py [--quantize int8] [--threads 1 2]

Takes ResNet-20 and VGG-small of bench/models with channels removed as the rows of docs/results.md have it
(bench/accuracy, which says what that costs), without recovery, which does not change what runs. Each turn
takes the median of several runs, since the first one after a change of network finds the caches full of the
other's weights. Prints the medians of the turns and of their ratios.
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
REMOVED = ("macs=0.5", "macs=0.5,scope=layer", "macs=0.65")


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


def compare(network: str, words: str, quantize: str, threads: int) -> str:
    """A line about one network with channels removed as `words` say."""
    image = np.random.default_rng(1).normal(size=(1, 1, 28, 28)).astype(np.float32)
    recipe: dict[str, object] = {"quantize": quantize, "recover": []}
    removed = {"prune": [f"filter,{words},criterion=obs,round_to=8"], **recipe}
    (dense, _), (small, part) = (session(network, each, threads) for each in (recipe, removed))
    pairs = np.array([(milliseconds(small, image), milliseconds(dense, image)) for _ in range(ROUNDS)])
    few, all_of = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    return (
        f"{network} {quantize}, {words}: {part:.2f} of the MACs; {threads} thread{'s' * (threads > 1)}: "
        f"{few:.3f} ms against {all_of:.3f} ms, ratio {ratio:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of networks that lost channels.")
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for network in NETWORKS:
        for words in REMOVED:
            for threads in options.threads:
                print(compare(network, words, options.quantize, threads), flush=True)


if __name__ == "__main__":
    main()
