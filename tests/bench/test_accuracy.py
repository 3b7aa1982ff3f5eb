"""`python -m bench.accuracy` on one small network and the bundled images."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import pyruntime as prt
from pyruntime import demo
from pyruntime.loading import load_arrays

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # last: the installed pyruntime goes before the sources beside `bench`

from bench.accuracy import __main__ as command  # noqa: E402
from bench.accuracy import measure, report  # noqa: E402
from bench.accuracy.recipes import MOBILENETS, NETWORKS, ROWS, Row  # noqa: E402
from bench.models.fashion_data import Images, read_images  # noqa: E402

NETWORK = "lenet_300_100"


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled images as a folder of idx files; the calibration images have no labels, so zeros."""
    folder = tmp_path_factory.mktemp("fashion")
    test = load_arrays(demo.DATA / "fashion_test.npz")
    train = load_arrays(demo.DATA / "fashion_calibration.npz")["images"]
    write_idx(folder / "t10k-images-idx3-ubyte.gz", test["images"])
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", test["labels"])
    write_idx(folder / "train-images-idx3-ubyte.gz", train)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(len(train), np.uint8))
    return folder


def make_bench(dataset: Path, seeds: tuple[int, ...] = (0,)) -> measure.Bench:
    train, test = read_images(dataset, "train"), read_images(dataset, "t10k")
    return measure.Bench(ROOT / "bench" / "models", train, test, seeds)


def float_accuracy(bench: measure.Bench, images: Images) -> float:
    """In ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(bench.path(NETWORK)))
    (logits,) = session.run(None, {"input": measure.normalise(images.pixels)})
    return 100 * float((logits.argmax(1) == images.labels).mean())


def test_command_writes_the_table(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.md"
    arguments = [
        "--dataset",
        str(dataset),
        "--output",
        str(output),
        "--quick",
        "--only",
        f"{NETWORK}: int8 *",
    ]
    assert command.main(arguments) == 0
    bench = make_bench(dataset)
    expected = float_accuracy(bench, bench.test)
    (line,) = [line for line in output.read_text().splitlines() if f"| {NETWORK} |" in line]
    assert f"| {expected:.2f} |" in line
    assert line.endswith("| pass |")
    arguments[-1] = "nothing*"
    assert command.main(arguments) == 2


def test_a_row_that_loses_too_much_is_a_miss(dataset: Path) -> None:
    recipe = {"prune": ["weight=0.98"], "quantize": "none", "recover": []}
    bench = make_bench(dataset, (0, 1))
    entries = report.measure(bench, [Row("98 % of the weights", (NETWORK,), recipe, limit=1.0)])
    assert not entries[0].passes
    assert "**MISS**" in report.document(bench, entries)
    assert entries[0].method.losses[0] == entries[0].method.losses[1]  # magnitude pruning sees no data
    smaller = report.measure(bench, [Row("ratio", (NETWORK,), recipe, smaller=1000.0)])
    assert not smaller[0].passes


def test_every_cell_is_measured_once(dataset: Path) -> None:
    asked: list[str] = []
    bench = make_bench(dataset)
    bench.progress = asked.append
    row = Row("int8", (NETWORK,), {"quantize": "int8"}, baseline={"quantize": "int8"})
    (entry,) = report.measure(bench, [row])
    assert len(asked) == 2  # float32 and int8
    assert not entry.better
    assert not entry.closer


def test_comparisons_may_take_fewer_seeds(dataset: Path) -> None:
    recipe = {"quantize": "int8", "recover": []}
    bench = make_bench(dataset, (0, 1))
    bench.comparison_seeds = 1
    rows = [Row("limit", (NETWORK,), recipe), Row("comparison", (NETWORK,), recipe, baseline=recipe)]
    limit, comparison = report.measure(bench, rows)
    assert (len(limit.method.cells), len(comparison.method.cells)) == (2, 1)
    assert "the seeds 0, 1 (comparisons: 0)" in report.document(bench, [limit, comparison])


def test_a_run_goes_on_from_its_record(dataset: Path, tmp_path: Path) -> None:
    recipe = {"quantize": "int8", "recover": []}
    asked: list[str] = []
    bench = make_bench(dataset)
    bench.record = tmp_path / "cells.jsonl"
    wanted = bench.summary(NETWORK, recipe, bench.seeds)
    resumed = measure.Bench(bench.folder, bench.train, bench.test, (0, 1), asked.append, bench.record)
    found = resumed.summary(NETWORK, recipe, resumed.seeds)
    assert found.cells[0] == wanted.cells[0]
    asked_cells = [text for text in asked if "seed" in text]
    assert asked_cells == [f"{NETWORK}: --quantize int8 --recover none, seed 1"]


def test_calibration_images_differ_by_seed_and_not_by_run(dataset: Path) -> None:
    bench = make_bench(dataset)
    few = measure.Bench(
        bench.folder, Images(np.tile(bench.train.pixels, (2, 1, 1)), bench.train.labels), bench.test, (0,)
    )
    np.testing.assert_array_equal(few.calibration(0), few.calibration(0))
    assert (few.calibration(0) != few.calibration(1)).any()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_recipes_are_words_we_know(row: Row) -> None:
    assert set(row.networks) <= {*NETWORKS, *MOBILENETS}
    prt.Recipe(**row.recipe)
    if row.baseline is not None:
        prt.Recipe(**row.baseline)
