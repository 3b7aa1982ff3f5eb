"""Time and memory of OBS on all layers of a ResNet-50-sized network.

    python bench/obs_resnet_50.py [--images 256] [--size 224] [--prune weight=0.5]

The weights are random (bench/models/random_networks.py): the work does not depend on what they are. Prints
the time of every layer, then the total and the most memory the process ever held.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from bench.models.random_networks import STATISTICS_PICTURES, noise, resnet50
from pyruntime import graph
from pyruntime.blas import single_threaded
from pyruntime.evaluate import observe
from pyruntime.frontends.onnx import load
from pyruntime.prune import parse_spec, prune
from pyruntime.recover import update_pruned

HELD_OUT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of OBS on a ResNet-50-sized network.")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--prune", default="weight=0.5")
    options = parser.parse_args()
    reference = load(resnet50(noise(STATISTICS_PICTURES, options.size)))
    data = {"input": noise(options.images, options.size, seed=2)}
    model = graph.clone(reference)
    report = prune(model, [parse_spec(options.prune)])
    before = sqnr(reference, model, options.size)
    start = time.perf_counter()

    def progress(done: int, total: int) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  layer {done} of {total}", flush=True)

    with single_threaded():  # as `compress` does
        update_pruned(model, reference, data, report.granularities, progress=progress)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{options.images} images of {options.size}x{options.size}, {options.prune}")
    print(f"logits: {before:.1f} dB after pruning, {sqnr(reference, model, options.size):.1f} dB after OBS")
    cpu, memory = (used.ru_utime + used.ru_stime) / 60, used.ru_maxrss / 2**20
    print(f"{seconds / 60:.1f} minutes ({cpu:.1f} of CPU in all), at most {memory:.1f} GB")


def sqnr(reference, model, size: int) -> float:  # type: ignore[no-untyped-def]
    """Signal over noise of the logits in dB, on pictures that OBS has not seen."""
    data = {"input": noise(HELD_OUT, size, seed=3)}
    wanted, found = (
        np.concatenate([values["logits"] for values in observe(net, data, ["logits"])])
        for net in (reference, model)
    )
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()))


if __name__ == "__main__":
    main()
