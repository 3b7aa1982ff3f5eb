"""One cell of the table: compress a float network with a recipe, and count right answers and bytes."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import pyruntime as prt
from bench.models.fashion_data import Images, normalise

Array = npt.NDArray[np.float32]

BATCH = 100
CALIBRATION_IMAGES = 512
FLOAT: Mapping[str, Any] = {"quantize": "none"}


@dataclass(frozen=True)
class Cell:
    """One compressed network.

    Attributes:
        accuracy: percent of the test images.
        sqnr: of the logits against the float network's, in dB, over the test images.
        size: bytes of the `.pyrt` file.
    """

    accuracy: float
    sqnr: float
    size: int


@dataclass(frozen=True)
class Summary:
    """A recipe on a network, a cell for each calibration seed."""

    float_accuracy: float
    cells: tuple[Cell, ...]

    @property
    def losses(self) -> list[float]:
        """Points: float accuracy minus compressed accuracy."""
        return [self.float_accuracy - cell.accuracy for cell in self.cells]

    @property
    def loss(self) -> float:
        return statistics.mean(self.losses)

    @property
    def spread(self) -> float:
        """Largest minus smallest loss."""
        return max(self.losses) - min(self.losses)

    @property
    def size(self) -> int:
        return round(statistics.mean(cell.size for cell in self.cells))

    @property
    def sqnr(self) -> float:
        return statistics.mean(cell.sqnr for cell in self.cells)


@dataclass
class Bench:
    """Measures recipes on networks; every (network, recipe, seed) once, every file once.

    Attributes:
        folder: where `fashion_<network>.onnx` are.
        train: calibration images are drawn from these, without their labels.
        test: the images that count.
        seeds: of the draws; the comparisons of methods take the first `comparison_seeds` of them.
        record: file of cells measured so far, a line of JSON each; those of the same code, networks and
            images are not measured again.
    """

    folder: Path
    train: Images
    test: Images
    seeds: Sequence[int]
    progress: Callable[[str], None] = lambda text: None
    record: Path | None = None
    comparison_seeds: int | None = None
    _cells: dict[str, Cell] = field(default_factory=dict)
    _files: dict[str, Cell] = field(default_factory=dict)
    _float_logits: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.record is not None and self.record.exists():
            for line in self.record.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                key = entry.pop("key")
                self._cells[key] = Cell(**entry)

    def path(self, network: str) -> Path:
        return self.folder / f"fashion_{network}.onnx"

    def float_bytes(self, network: str) -> int:
        """Bytes of the float32 weights: 4 for every element of an initializer."""
        graph = onnx.load(str(self.path(network))).graph
        return sum(4 * int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type == 1)

    def float_logits(self, network: str) -> Array:
        """f32 [N, 10] of the test images."""
        if network not in self._float_logits:
            self.progress(f"{network}: float32")
            program = prt.compress(self.path(network), FLOAT).program
            self._float_logits[network] = logits(prt.InferenceSession(program), self.test)
        return self._float_logits[network]

    @property
    def few_seeds(self) -> Sequence[int]:
        """Those of the comparisons."""
        return self.seeds[: self.comparison_seeds]

    def summary(self, network: str, recipe: Mapping[str, Any], seeds: Sequence[int]) -> Summary:
        reference = percent_right(self.float_logits(network), self.test)
        return Summary(reference, tuple(self.cell(network, recipe, seed) for seed in seeds))

    def cell(self, network: str, recipe: Mapping[str, Any], seed: int) -> Cell:
        key = self._key(network, recipe, seed)
        if key not in self._cells:
            self.progress(f"{network}: {describe(recipe)}, seed {seed}")
            self._cells[key] = cell = self._measure(network, recipe, seed)
            if self.record is not None:
                with self.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, **asdict(cell)}) + "\n")
        return self._cells[key]

    def _key(self, network: str, recipe: Mapping[str, Any], seed: int) -> str:
        images = (len(self.train.pixels), self.test.pixels.shape, CALIBRATION_IMAGES)
        text = json.dumps([dict(recipe), seed, images], sort_keys=True)
        return hash_of(code_hash().encode(), self.path(network).read_bytes(), text.encode())

    def _measure(self, network: str, recipe: Mapping[str, Any], seed: int) -> Cell:
        model = prt.compress(
            self.path(network), recipe=dict(recipe), calibration={"input": self.calibration(seed)}
        )
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / "network.pyrt"
            model.save(packed)
            content = hash_of(packed.read_bytes())
            if content not in self._files:
                found = logits(prt.InferenceSession(packed), self.test)
                noise = sqnr(self.float_logits(network), found)
                self._files[content] = Cell(percent_right(found, self.test), noise, packed.stat().st_size)
        return self._files[content]

    def calibration(self, seed: int) -> Array:
        """The network's input f32 [N, 1, 28, 28] for a seeded random choice of training images."""
        count = min(CALIBRATION_IMAGES, len(self.train.pixels))
        chosen = np.random.default_rng(seed).choice(len(self.train.pixels), count, replace=False)
        return normalise(self.train.pixels[np.sort(chosen)])


def hash_of(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()


@functools.cache
def code_hash() -> str:
    """Of the installed package, sources and core."""
    folder = Path(prt.__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".so", ".pyd"))
    return hash_of(*(path.read_bytes() for path in files))


def logits(session: prt.InferenceSession, images: Images) -> Array:
    """f32 [N, 10]."""
    starts = range(0, len(images.pixels), BATCH)
    parts = [session.run(None, {"input": normalise(images.pixels[i : i + BATCH])})[0] for i in starts]
    return np.concatenate(parts)


def percent_right(found: Array, images: Images) -> float:
    """Percent of the images whose largest logit is the label's."""
    return 100 * float((found.argmax(1) == images.labels).mean())


def sqnr(reference: Array, found: Array) -> float:
    """Signal over noise in dB, infinite if there is no noise."""
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


def describe(recipe: Mapping[str, Any]) -> str:
    """The recipe in the words of the command line."""
    words = [f"--prune {text}" for text in recipe.get("prune", ())]
    words.append(f"--quantize {recipe.get('quantize', 'int8')}")
    if "recover" in recipe:
        words.append(f"--recover {','.join(recipe['recover']) or 'none'}")
    words += [
        f"--{key} {value}" for key, value in recipe.items() if key not in ("prune", "quantize", "recover")
    ]
    return " ".join(words)
