"""The MobileNet-like network with channels of uneven ranges; it computes the same.

    python bench/models/uneven_channels.py --output bench/models

Networks trained elsewhere often have weights whose channels differ by a factor of a hundred, and lose all
accuracy in int8 with one scale per weight (Nagel et al. 2019, figure 2); the one trained here has not. So
every channel of the tensors between a projection and the next expansions is multiplied by a random factor of
2**-SPREAD to 2**SPREAD, and the weights that read it are divided by it.
Writes fashion_mobilenet_uneven.onnx, batch norm folded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyruntime import graph
from pyruntime.frontends.onnx import load
from pyruntime.recover.spans import find_spans, rescale

SPREAD = 4.0
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description="MobileNet-like network with channels of uneven ranges.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    model = load(Path(__file__).parent / "fashion_mobilenet.onnx")
    generator = np.random.default_rng(SEED)
    for span in find_spans(model):
        if not span.clips:
            rescale(model, span, 2.0 ** generator.uniform(-SPREAD, SPREAD, span.channels))
    for value in model.graph.initializers.values():
        value.doc_string = None
    graph.save(graph.to_standard(model), options.output / "fashion_mobilenet_uneven.onnx")


if __name__ == "__main__":
    main()
