"""EfficientNet-Lite0 in the smallest file that keeps its answers: a mixture of 3 to 8 bits, without training.

    python bench/models/efficientnet_lite0.py --out DIR
    python bench/efficientnet_small.py DIR [--recipe FILE.yaml] [--out FILE.pyrt]

compresses DIR/efficientnet_lite0.onnx by a recipe with the calibration crops, then prints what the 20
labelled pictures say of it beside the float network: right answers, answers that are the float network's,
mean cosine of the logits. The recipe is what a search found that saw the calibration crops alone:

    pyruntime compress DIR/efficientnet_lite0.onnx -o small.pyrt --calibration DIR/calibration.npz \\
        --target size=TARGET
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import pyruntime as prt

Array = npt.NDArray[Any]

RECIPE = Path(__file__).parent / "models" / "efficientnet_lite0_small.yaml"


def logits(source: Any, pictures: Array) -> Array:
    """f32 [N, 1000]."""
    session = prt.InferenceSession(source)
    return np.concatenate([session.run(None, {"input": picture[None]})[0] for picture in pictures])


def row(found: Array, wanted: Array, labels: Array) -> str:
    """Top-1, top-5, same top-1 and cosine as cells of a table."""
    best = np.argsort(-found, axis=1)[:, :5]
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1) / lengths
    counts = (
        (best[:, 0] == labels).sum(),
        (best == labels[:, None]).any(axis=1).sum(),
        (best[:, 0] == wanted.argmax(axis=1)).sum(),
    )
    return " | ".join([*(f"{count} of {len(labels)}" for count in counts), f"{cosines.mean():.4f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description="EfficientNet-Lite0 compressed by a mixed recipe.")
    parser.add_argument("folder", type=Path, help="what bench/models/efficientnet_lite0.py wrote")
    parser.add_argument("--recipe", default=str(RECIPE), help=f"recipe file or preset ({RECIPE.name})")
    parser.add_argument("--out", type=Path, help="where the packed file stays")
    options = parser.parse_args()
    network, labelled = options.folder / "efficientnet_lite0.onnx", np.load(options.folder / "imagenet20.npz")
    pictures, labels = labelled["input"], labelled["labels"]
    wanted = logits(prt.compress(network, "float").program, pictures)
    start = time.perf_counter()
    model = prt.compress(network, options.recipe, options.folder / "calibration.npz")
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        packed = options.out or Path(scratch) / "small.pyrt"
        model.save(packed)
        size, found = packed.stat().st_size, logits(packed, pictures)
    print("| network | file, bytes | top-1 | top-5 | same top-1 | mean cosine |\n|---|---|---|---|---|---|")
    print(f"| float32 | {network.stat().st_size:,} | {row(wanted, wanted, labels)} |")
    print(f"| {Path(options.recipe).stem} | {size:,} | {row(found, wanted, labels)} |")
    print(f"\ncompressed in {seconds:.0f} s")


if __name__ == "__main__":
    main()
