"""What a mixture of schemes, found by search, loses beside one scheme for all layers in a file of that size.

    python bench/mixed_precision.py [--dataset FOLDER] [--network NAME]... [--scheme NAME]...

For each network and scheme, over the 10,000 Fashion-MNIST test images and with calibration seed 0: file size,
SQNR of the logits against the float network and points of accuracy lost, of the uniform recipe and of what
`--target size=` finds at the size of its file. The search sees calibration images alone. Nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.accuracy.__main__ import DATASET, ROOT
from bench.accuracy.measure import Bench, percent_right
from bench.accuracy.recipes import NETWORKS
from bench.models.fashion_data import read_images

SCHEMES = ("int4", "int3")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixtures of schemes against one scheme at the same size.")
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--scheme", action="append", help="word of --quantize (default: int4 and int3)")
    options = parser.parse_args()
    train, test = (read_images(options.dataset, part) for part in ("train", "t10k"))
    bench = Bench(ROOT / "bench" / "models", train, test, (0,))
    print("| network | scheme | bytes | SQNR, dB | points lost | mixed: bytes | SQNR, dB | points lost |")
    print("|---|---|---|---|---|---|---|---|")
    for network in options.network or NETWORKS:
        right = percent_right(bench.float_logits(network), test)
        for scheme in options.scheme or SCHEMES:
            uniform = bench.cell(network, {"quantize": scheme}, 0)
            mixed = bench.cell(network, {"target": f"size={uniform.size}B"}, 0)
            cells = [
                f"{cell.size:,} | {cell.sqnr:.1f} | {right - cell.accuracy:.2f}" for cell in (uniform, mixed)
            ]
            print(f"| {network} | {scheme} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
