"""`python -m bench.race` and `bench.roofline` on tiny networks, from drawn weights to the figures."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # last: the installed pyruntime goes before the sources beside `bench`

import pyruntime as prt  # noqa: E402
from bench.models import random_networks  # noqa: E402
from bench.race import __main__ as race  # noqa: E402
from bench.race import prepare, report, sources  # noqa: E402
from bench.race.networks import NETWORKS, find  # noqa: E402
from bench.roofline import __main__ as roofline  # noqa: E402
from bench.roofline import layers, peaks  # noqa: E402
from pyruntime.bench import peer_models, runtimes  # noqa: E402
from pyruntime.loading import load_program  # noqa: E402
from pyruntime.program import Constant, Node, Program, Value  # noqa: E402

PEAKS = peaks.Peaks(1e9, 1e8, (("L1", 1000.0, 1e9), ("DRAM", float("inf"), 1e8)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, *arguments: str) -> int:
    return race.main(["--against", "onnxruntime", "--threads", "1", "--cache", str(cache), *arguments])


def test_race(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    names = ("tiny_blocks_75", "tiny_bert")
    for name in names:  # the second call adds to the file of the first
        assert run(cache, "--network", name, "--rounds", "1", "--json", str(out)) == 0
    figures = json.loads(out.read_text())
    assert figures["cpu"] and figures["isa"] and figures["versions"]["onnxruntime"]
    assert [entry["name"] for entry in figures["networks"]] == list(names)
    blocks, encoder = figures["networks"]
    labels = [row["label"] for row in blocks["rows"]]
    assert "pyruntime int8" in labels and "pyruntime int8 on tiny" in labels
    assert "onnxruntime float32 on tiny" in labels
    assert any("dynamic" in row["label"] for row in encoder["rows"])
    for entry in figures["networks"]:
        peers = [row["ratio"] for row in entry["rows"] if row["runtime"] != "pyruntime"]
        assert entry["peer"]["ratio"] >= min(peers) > 0
    assert "tiny_bert" in capsys.readouterr().out.splitlines()[-1]
    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*.pyrt")}
    assert run(cache, "--network", "tiny_blocks_75", "--rounds", "0") == 0
    assert "entrants agree" in capsys.readouterr().out
    assert made == {path: path.stat().st_mtime_ns for path in cache.rglob("*.pyrt")}


def test_float_networks_race_float(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert run(cache, "--network", "tiny_float", "--rounds", "1", "--json", str(out)) == 0
    (entry,) = json.loads(out.read_text())["networks"]
    assert [row["label"] for row in entry["rows"]] == ["pyruntime float32", "onnxruntime float32"]


def test_float_networks_race_float32_beside_bf16(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, wanted in [("bf16", {"bf16", "float32"}), ("float32", {"float32"})]:
        monkeypatch.setattr(runtimes, "float_precision", lambda peer, precision=precision: precision)
        entrants = prepare.entrants(find("tiny_float"), cache, ["openvino"])
        assert {e.label.removeprefix("openvino ") for e in entrants[1:]} == wanted


def test_same_isa_holds_openvino(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")  # of the user: nothing is held
    monkeypatch.setattr(runtimes, "_openvino_says", lambda: ["FP32", "BF16"])
    assert runtimes.float_precision("openvino") == "bf16"
    runtimes.hold_openvino("avxvnni")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2_VNNI"
    assert runtimes.float_precision("openvino") == "float32"


@pytest.mark.parametrize(
    ("runtime", "isa", "precision"),
    [("openvino", "", None), ("openvino", "avxvnni", "f32"), (runtimes.OPENVINO_FLOAT32, "", "f32")],
)
def test_openvino_computes_float32_where_it_must(
    monkeypatch: pytest.MonkeyPatch, runtime: str, isa: str, precision: str | None
) -> None:
    asked = {}

    class Core:
        def read_model(self, _path: str) -> Any:
            return SimpleNamespace(reshape=lambda _shapes: None)

        def compile_model(self, _model: Any, _device: str, hints: dict[str, Any]) -> Any:
            asked.update(hints)
            raise StopIteration

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    if isa:
        runtimes.hold_openvino(isa)
    with pytest.raises(StopIteration):
        runtimes.load(runtime, "network.onnx", 2, None, {"x": [1, 3]})
    assert asked.get("INFERENCE_PRECISION_HINT") == precision


def test_outputs_that_disagree_are_not_timed(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    assert run(folder, "--network", "tiny", "--rounds", "0") == 0
    (qdq,) = folder.rglob("qdq.onnx")
    model = onnx.load(qdq)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = largest.raw_data[::-1]
    onnx.save(model, qdq)
    capsys.readouterr()
    assert run(folder, "--network", "tiny", "--rounds", "1") == 1
    out = capsys.readouterr().out
    assert "disagree" in out and "median ms" not in out


def test_what_cannot_be_raced(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cache, "--network", "resnet*", "--isa", "sse9") == 2
    assert run(cache, "--network", "vgg*") == 2
    assert "resnet50_blocks_90" in capsys.readouterr().err
    find_spec = sources.importlib.util.find_spec
    monkeypatch.setattr(
        sources.importlib.util, "find_spec", lambda name: None if name == "ddddocr" else find_spec(name)
    )
    assert run(cache, "--network", "detector_416") == 0
    assert "pip install --no-deps ddddocr" in capsys.readouterr().out
    assert run(cache, "--network", "detector_416", "--batch", "8") == 0
    assert "batch" in capsys.readouterr().out


def test_the_fastest_peer_is_that_of_the_same_network() -> None:
    def row(label: str, runtime: str, ratio: float) -> dict[str, Any]:
        return {"label": label, "runtime": runtime, "ratio": ratio, "median_ms": 2 * ratio}

    rows = [row("pyruntime int8", "pyruntime", 1.0), row("a", "onnxruntime", 3.0), row("b", "openvino", 2.5)]
    rows += [row("a on mlp", "onnxruntime", 2.0), row("pyruntime int8 on mlp", "pyruntime", 4.0)]
    entry = report.result(find("mlp_blocks_90"), rows, " on mlp")
    assert entry["peer"]["label"] == "b" and entry["ours_ms"] == 2.0
    assert entry["dense_peer"]["ratio"] == 2.0 and entry["dense_ours"]["ratio"] == 4.0
    assert "2.50x" in report.summary([entry])


def test_sources_of_the_table() -> None:
    assert {network.source for network in NETWORKS} <= set(sources.SOURCES)
    assert all(find(network.dense).source == network.source for network in NETWORKS if network.dense)


def test_statistics_keep_every_layer_alive() -> None:
    """The normalized outputs of a drawn network have the deviation that its statistics promise."""
    sample = random_networks.noise(4, 32)
    model = random_networks.tiny(sample)
    model.graph.output.append(onnx.helper.make_tensor_value_info("stem.norm", 1, None))
    found = prt.InferenceSession(prt.compress(model, "float")).run(["stem.norm"], {"input": sample})[0]
    scale = next(t for t in model.graph.initializer if t.name == "stem.norm.0")
    deviation = found.std((0, 2, 3)) / onnx.numpy_helper.to_array(scale)
    np.testing.assert_allclose(deviation, 1, atol=0.02)


def test_roofline(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peaks, "measure", lambda isa, threads: PEAKS)
    out = tmp_path / "layers.json"
    arguments = [
        "--network",
        "tiny",
        "--cache",
        str(cache),
        "--threads",
        "1",
        "--top",
        "2",
        "--json",
        str(out),
    ]
    assert roofline.main(arguments) == 0
    text = capsys.readouterr().out
    assert "loss us" in text and len(text.split("tiny\n")[1].splitlines()) == 2 + 2 + 1
    rows = json.loads(out.read_text())["networks"]["tiny"]
    by_name = {row["node"]: row for row in rows}
    # 16 x 16 outputs of 3 x 3 windows over 3 channels, 32 times.
    assert by_name["stem.conv"]["macs"] == 16 * 16 * 32 * 3 * 3 * 3
    assert all(row["time"] >= 0 for row in rows)


def test_work_of_attention_and_sparse_layers() -> None:
    weight = np.zeros((8, 16), np.int8)
    weight[:, :4] = 1
    nodes = [Node("d", "dense", ["x", "w", "m", "o"], ["y"]), Node("a", "attention", ["x", "x", "x"], ["z"])]
    program = Program("p", ["x"], ["y", "z"], {}, {"w": Constant("w", weight)}, nodes)
    shapes = {"x": (2, 5, 16), "y": (2, 5, 8), "z": (2, 5, 16)}
    assert layers.work(program, nodes[0], shapes, "dense", "avx2") == 2 * 5 * 8 * 16
    assert layers.work(program, nodes[0], shapes, "block4", "avx2") == 2 * 5 * 8 * 4
    assert layers.work(program, nodes[1], shapes, "dense", "avx2") == 2 * 5 * 5 * (16 + 16)


def test_work_of_transformed_windows() -> None:
    """7 x 9 pixels are 2 x 3 tiles, of 36 products of 16 bits for each pair of channels."""
    node = Node("c", "conv", ["x", "w", "m", "o"], ["y"])
    program = Program("p", ["x"], ["y"], {}, {"w": Constant("w", np.ones((8, 16, 3, 3), np.int8))}, [node])
    shapes = {"x": (2, 16, 9, 11), "y": (2, 8, 7, 9)}
    assert layers.work(program, node, shapes, "dense", "avx2") == 2 * 8 * 7 * 9 * 16 * 9
    assert layers.work(program, node, shapes, "winograd", "avx2") == 2 * 8 * 6 * 36 * 16 * 4 / 3
    assert layers.work(program, node, shapes, "winograd", "avx512vnni") == 2 * 8 * 6 * 36 * 16 * 2


def test_limits() -> None:
    def limit(macs: float, weights: float, activations: float, precision: str = "int8") -> layers.Layer:
        row = layers.Layer("n", "dense", "k", 1.0, macs, weights, activations)
        return layers.with_limit(row, PEAKS, 5000, precision)

    assert (
        limit(1e6, 1000, 100).limit == pytest.approx(1e-3) and limit(1e6, 1000, 100).limited_by == "compute"
    )
    assert limit(1e6, 0, 0, "float32").limit == pytest.approx(1e-2)
    # All weights together do not fit into L1, the activations do.
    slow = limit(10, 1000, 100)
    assert slow.limit == pytest.approx(1000 / 1e8 + 100 / 1e9) and slow.limited_by == "DRAM"
    assert limit(0, 0, 0).limit == 0.0 and slow.loss == 1.0 - slow.limit


def test_peaks() -> None:
    isa = prt.available_isas()[-1]
    if isa not in peaks.LOOPS or shutil.which("cc") is None:
        pytest.skip(f"no loop for {isa}, or no C compiler")
    found = peaks.measure(isa, 1)
    assert found.int8 > found.f32 > 1e8
    assert [name for name, _, _ in found.levels] == ["L1", "L2", "L3", "DRAM"]
    assert all(speed > 1e8 for _, _, speed in found.levels)
    assert found.bandwidth(1e15) == found.levels[-1][2]


def test_packed_file_is_what_it_is_of(cache: Path) -> None:
    """The cache holds the recipe's network: three quarters of its blocks are zero."""
    assert run(cache, "--network", "tiny_blocks_75", "--rounds", "0") == 0
    shares = []
    for path in (cache / "tiny").rglob("packed.pyrt"):
        program = load_program(path)
        weights = [c.array for c in program.constants.values() if c.array.dtype == np.int8]
        if weights:  # not the float form
            shares.append(sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights))
    assert max(shares) > 0.5 > min(shares)


def test_values_of_the_roofline_are_bytes_of_their_dtype() -> None:
    program = Program("p", ["x"], ["y"], {"x": Value("x", "u8", [4]), "y": Value("y", "f32", [4])}, {}, [])
    shapes = {"x": (4,), "y": (4,)}
    assert [layers._bytes(program, name, shapes) for name in "xy"] == [4, 16]


def test_signed_activations_cover_the_range_of_the_unsigned() -> None:
    """-2.5 .. 1.5 in u8 with zero point 160; the nearest s8 scale around 0 is 160/127 times as coarse."""
    helper = onnx.helper
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="d"),
    ]
    constants = {"scale": np.float32(1 / 64), "zero": np.uint8(160)}
    shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [9]) for name in ("x", "y")]
    tensors = [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", shape[:1], shape[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    signed = peer_models.signed_activations(model)
    x = np.linspace(-2.5, 1.48, 9).astype(np.float32)
    found = onnx.reference.ReferenceEvaluator(signed).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x, atol=0.5 * 160 / 127 / 64 + 1e-6)
    assert onnx.numpy_helper.to_array(signed.graph.initializer[-1]).dtype == np.int8
