"""The main job, start to end, on a bundled network that was really trained and on real labelled images.

The network is a small residual network for Fashion-MNIST (28x28 grey images of clothing, 10 classes); the
images in `data/` are a part of that set's test images. `data/LICENSE-fashion-mnist.txt` is the licence of the
images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.bench import runtimes
from pyruntime.bench.peer_models import peer_entrants
from pyruntime.bench.runner import Entrant, measure
from pyruntime.compare import accuracy
from pyruntime.compression import Progress, compress
from pyruntime.inspect_model import inspect_file
from pyruntime.loading import Data, load_arrays, load_program
from pyruntime.recipe import Recipe
from pyruntime.session import InferenceSession, SessionOptions, cpu_features

DATA = Path(__file__).parent / "data"
NETWORK = "fashion_resnet.onnx"
INPUT = "input"
PRUNE = "block4=0.75"
QUANTIZE = "int8"
RECOVER: list[str] | None = None  # None: the recipe's choice for a pruned network
# The normalization the network was trained with: (pixel / 255 - mean) / deviation.
MEAN, DEVIATION = 0.2860, 0.3530
BENCH_ROUNDS = 8


def normalize(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """u8 [N, 28, 28] -> the network's input, f32 [N, 1, 28, 28]."""
    reals = (images.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.ascontiguousarray(reals[:, None, :, :], dtype=np.float32)


def test_data() -> Data:
    """The labelled test images."""
    arrays = load_arrays(DATA / "fashion_test.npz")
    return Data({INPUT: normalize(arrays["images"])}, arrays["labels"].astype(np.int64), "fashion_test.npz")


def calibration_data() -> dict[str, npt.NDArray[np.float32]]:
    """Training images without labels: what calibration may see."""
    return {INPUT: normalize(load_arrays(DATA / "fashion_calibration.npz")["images"])}


def run_demo(options: SessionOptions | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Compresses the bundled network and measures it against the float baselines that are installed.

    Returns `float_accuracy, accuracy` (shares of the test images), `float_bytes, bytes` (file sizes),
    `float_latency_ms, latency_ms` (medians, batch 1, ours), `peers` (runtime -> form -> figures), and what
    the tables need besides.
    """
    data = test_data()
    float_file = DATA / NETWORK
    float_session = InferenceSession(load_program(float_file), options)
    float_accuracy = accuracy(float_session, data)
    recipe = Recipe(prune=[PRUNE], quantize=QUANTIZE, recover=RECOVER)
    model = compress(float_file, recipe=recipe, calibration=calibration_data(), progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packed = folder / "fashion_resnet.pyrt"
        model.save(packed)
        session = InferenceSession(packed, options)
        compressed_accuracy = accuracy(session, data)
        report = inspect_file(packed, options)
        rows = measure(
            _entrants(float_file, packed, folder),
            {INPUT: data.inputs[INPUT][:1]},
            folder,
            threads=session.num_threads,
            isa=session.isa,
            rounds=BENCH_ROUNDS,
            seconds=0.1,
            progress=None if progress is None else lambda done, total: progress("measure", done, total),
        )
        size = packed.stat().st_size
    peers: dict[str, dict[str, Any]] = {}
    for row in rows[2:]:
        form = "float32" if row["label"].endswith("float32") else "int8"
        peers.setdefault(row["runtime"], {})[form] = {
            key: row[key] for key in ("version", "median_ms", "min_ms")
        }
    return {
        "network": NETWORK,
        "samples": data.samples,
        "prune": PRUNE,
        "quantize": QUANTIZE,
        "recover": list(model.report.steps),
        "float_accuracy": float_accuracy,
        "accuracy": compressed_accuracy,
        "sparsity": report["total"]["sparsity"],
        "float_bytes": float_file.stat().st_size,
        "bytes": size,
        "float_latency_ms": rows[1]["median_ms"],
        "latency_ms": rows[0]["median_ms"],
        "peers": peers,
        "cpu": cpu_features().get("brand") or "unknown",
        "isa": session.isa,
        "threads": session.num_threads,
        "rows": rows,
        "layers": report["layers"],
    }


def _entrants(float_file: Path, packed: Path, folder: Path) -> list[Entrant]:
    """Ours compressed and float; each peer on the float network and on the compressed one as QDQ."""
    entrants = [
        Entrant("pyruntime compressed", "pyruntime", str(packed), str(packed)),
        Entrant("pyruntime float32", "pyruntime", str(float_file), "float32"),
    ]
    peers = [name for name in runtimes.PEERS if runtimes.is_installed(name)]
    if not peers:
        return entrants
    entrants += [Entrant(f"{peer} float32", peer, str(float_file), "float32") for peer in peers]
    return entrants + peer_entrants(str(packed), peers, "int8", folder)
