"""What choosing the mask inside the OBS update gains over keeping the zeros of the criterion.

    python bench/pruning_masks.py [--dataset FOLDER] [--network NAME]...

For each pruning, over the 10,000 Fashion-MNIST test images and with calibration seed 0: SQNR of the logits
against the float network and points of accuracy lost, once with the weights updated on the mask that
magnitude chose and once with the mask chosen by what a weight costs once the others have adapted. Nothing is
trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyruntime as prt
from bench.accuracy.__main__ import DATASET, ROOT
from bench.accuracy.measure import Bench, logits, percent_right, sqnr
from bench.models.fashion_data import read_images
from pyruntime import graph
from pyruntime.frontends.onnx import load
from pyruntime.lower import lower
from pyruntime.prune import parse_spec, prune
from pyruntime.recover import update_pruned

NETWORKS = ("lenet_300_100", "lenet_5", "resnet_20", "vgg_small", "mobilenet", "transformer")
PRUNINGS = ("weight=0.75", "block4=0.5", "block8=0.5", "2:4", "1:4")


def measure(bench: Bench, network: str, words: str, chosen: bool) -> tuple[float, float]:
    """SQNR in dB, and points lost."""
    reference = load(bench.path(network))
    model, data = graph.clone(reference), {"input": bench.calibration(0)}
    report = prune(model, [parse_spec(words)], data)
    update_pruned(model, reference, data, report.granularities if chosen else {})
    found, right = logits(prt.InferenceSession(lower(model)), bench.test), bench.float_logits(network)
    lost = percent_right(right, bench.test) - percent_right(found, bench.test)
    return sqnr(right, found), lost


def main() -> None:
    parser = argparse.ArgumentParser(description="OBS on a fixed mask against OBS that chooses its mask.")
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    options = parser.parse_args()
    train, test = (read_images(options.dataset, part) for part in ("train", "t10k"))
    bench = Bench(ROOT / "bench" / "models", train, test, (0,))
    print("| network | pruning | mask of magnitude | mask of OBS |\n|---|---|---|---|")
    for network in options.network or NETWORKS:
        for words in PRUNINGS:
            pairs = [measure(bench, network, words, chosen) for chosen in (False, True)]
            cells = [f"{ratio:.1f} dB, {lost:.2f}" for ratio, lost in pairs]
            print(f"| {network} | {words} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
