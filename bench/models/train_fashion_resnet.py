"""Train the small residual network of `pyruntime demo` on Fashion-MNIST and export it to ONNX.

    python bench/models/train_fashion_resnet.py --dataset FOLDER --output pyruntime/demo/data

FOLDER holds the four idx files of Fashion-MNIST, as `*-ubyte.gz` (Debian: package `dataset-fashion-mnist`).
Needs torch and onnx. Writes three files into the output folder:

fashion_resnet.onnx
    float32 network, `input` [N, 1, 28, 28], `logits` [N, 10]. The caller normalises
    x = (pixel / 255 - 0.2860) / 0.3530. BatchNormalization nodes are kept, not folded, so that tools can
    re-estimate their statistics.
fashion_test.npz
    `images` uint8 [1000, 28, 28], `labels` uint8 [1000]: the first 100 test images of each class, in the
    order of the test set.
fashion_calibration.npz
    `images` uint8 [512, 28, 28]: a seeded random choice of TRAINING images.

The training: cross entropy with label smoothing, SGD with Nesterov momentum and weight decay, a one-cycle
learning rate, random shifts and flips, and, where `--block-lasso` is not 0, a GROUP LASSO on the blocks that
block pruning removes (4 consecutive input channels of one output channel and tap), by a proximal step after
every update. The lasso concentrates the network in fewer blocks, so a network trained with it is easier to
prune in one shot; README.md has the figures. The weights of the last epoch are kept.

The run is seeded; a different CPU, thread count or torch build adds up in another order and ends a little
elsewhere.
"""

import argparse
import gzip
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530  # of the training pixels / 255
BLOCK = 4  # consecutive input channels pruned together
OPSET = 17


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual sum; a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class FashionResNet(nn.Module):
    """[N, 1, 28, 28] -> stem 14x14x32 -> 14x14x64 -> two blocks of 7x7x128 -> average -> [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.block1 = BasicBlock(32, 64, 1)
        self.block2 = BasicBlock(64, 128, 2)
        self.block3 = BasicBlock(128, 128, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


# --- data ---


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in a gzipped idx file: 00 00 08 ndim, then ndim big-endian uint32 sizes, then bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path}: not an idx file of unsigned bytes; give the folder of Fashion-MNIST *-ubyte.gz files"
        )
    ndim = data[3]
    shape = np.frombuffer(data, ">u4", ndim, offset=4).astype(int)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def normalise(images: np.ndarray) -> Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28], the network's input."""
    pixels = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
    return (pixels / 255 - PIXEL_MEAN) / PIXEL_STD


def augment(x: Tensor) -> Tensor:
    """Shift every image by up to 2 pixels each way (black comes in) and flip half of them left to right."""
    count, _, height, width = x.shape
    black = -PIXEL_MEAN / PIXEL_STD
    padded = functional.pad(x, (2, 2, 2, 2), value=black)[:, 0]
    rows = torch.randint(0, 5, (count, 1, 1)) + torch.arange(height)[None, :, None]
    columns = torch.randint(0, 5, (count, 1, 1)) + torch.arange(width)[None, None, :]
    columns = torch.where(torch.rand(count, 1, 1) < 0.5, columns.flip(2), columns)
    return padded[torch.arange(count)[:, None, None], rows, columns].unsqueeze(1)


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices of the first `per_class` samples of every class, in ascending order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)]))


# --- training ---


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every convolution weight [O, I, kh, kw] but the first one (a single input channel has no blocks)."""
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return {name: m.weight for name, m in convolutions.items() if m.in_channels % BLOCK == 0}


def block_norms(weight: Tensor) -> Tensor:
    """L2 norm of each 1x4 block: [O, I, kh, kw] -> [O, I/4, 1, kh, kw]."""
    return weight.detach().unflatten(1, (-1, BLOCK)).norm(dim=2, keepdim=True)


def shrink_blocks(model: nn.Module, amount: float) -> None:
    """Proximal step of the group lasso: shorten every block by `amount`, down to zero."""
    for weight in prunable_weights(model).values():
        factor = (1 - amount / block_norms(weight).clamp_min(1e-12)).clamp_min(0)
        weight.data = (
            (weight.data.unflatten(1, (-1, BLOCK)) * factor)
            .flatten(1, 2)
            .contiguous(memory_format=torch.channels_last)
        )


def train(model: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace) -> None:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]  # batch norm and bias: no decay
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    steps = len(images) // options.batch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * steps, cycle_momentum=False
    )
    for epoch in range(options.epochs):
        model.train()
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images))[: steps * options.batch].reshape(steps, options.batch)
        for batch in order:
            x = augment(images[batch]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            loss = functional.cross_entropy(logits.float(), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.block_lasso > 0:
                shrink_blocks(model, options.block_lasso * scheduler.get_last_lr()[0])
            scheduler.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}, {time.perf_counter() - start:.0f} s", flush=True)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of float32 predictions that are right, in evaluation mode."""
    model.eval()
    predictions = torch.cat([model(x).argmax(1) for x in images.split(500)])
    return 100 * (predictions == labels).float().mean().item()


# --- pruning ---


def weakest(norms: Tensor, sparsity: float) -> float:
    """The norm below or at which a block belongs to the weakest `sparsity` share."""
    return norms.flatten().kthvalue(int(sparsity * norms.numel())).values.item()


@torch.no_grad()
def prune_and_renormalise(model: nn.Module, sparsity: float, scope: str, images: Tensor) -> None:
    """One shot, in place: zero the weakest 1x4 blocks, then re-estimate batch norm on `images`.

    scope: "global" ranks the blocks of all layers together, "layer" prunes the same share of every layer.
    """
    weights = prunable_weights(model)
    threshold = weakest(torch.cat([block_norms(w).flatten() for w in weights.values()]), sparsity)
    for weight in weights.values():
        norms = block_norms(weight)
        if scope == "layer":
            threshold = weakest(norms, sparsity)
        weight.mul_((norms > threshold).expand(-1, -1, BLOCK, -1, -1).flatten(1, 2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # cumulative average
    model.train()
    model(images)
    model.eval()


def report_pruning(model: FashionResNet, images: Tensor, test_images: Tensor, test_labels: Tensor) -> None:
    weights = prunable_weights(model).values()
    zeros = sum(int((block_norms(w) == 0).sum()) for w in weights) / sum(
        block_norms(w).numel() for w in weights
    )
    print(f"1x4 blocks that are exactly zero after training: {zeros:.1%}")
    reference = accuracy(model, test_images, test_labels)
    for scope in ("global", "layer"):
        for sparsity in (0.5, 0.65, 0.75, 0.85):
            pruned = FashionResNet()
            pruned.load_state_dict(model.state_dict())
            prune_and_renormalise(pruned, sparsity, scope, images)
            result = accuracy(pruned, test_images, test_labels)
            change = result - reference
            print(f"{sparsity:.0%} of 1x4 blocks pruned, scope {scope}: {result:.2f} % ({change:+.2f})")


# --- export ---


def undo_sharing(proto: onnx.ModelProto) -> None:
    """The exporter stores equal initializers once, behind Identity nodes; give every node its own copy again.

    It happens here because the biases of `bn2` and of the shortcut's batch norm get the same gradients.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [n for n in proto.graph.node if n.op_type == "Identity" and n.input[0] in stored]:
        copy = proto.graph.initializer.add()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        proto.graph.node.remove(node)


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the initializers of a network exported by this script back into the model."""
    state = model.state_dict()
    for tensor in onnx.load(str(path)).graph.initializer:
        if tensor.name not in state:
            raise ValueError(
                f"{path}: initializer {tensor.name} is not of this network; give a file this script wrote"
            )
        state[tensor.name] = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
    model.load_state_dict(state)


def export(model: nn.Module, path: Path, example: Tensor) -> None:
    """Write the ONNX file and check it against torch with ONNX's reference evaluator."""
    model = model.eval().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the TorchScript exporter is deprecated, but it alone keeps batch norm nodes
        torch.onnx.export(
            model,
            (example[:1],),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        )
    proto = onnx.load(str(path))
    undo_sharing(proto)
    onnx.save(proto, str(path))
    onnx.checker.check_model(proto, full_check=True)
    operators = [node.op_type for node in proto.graph.node]
    print("operators:", {op: operators.count(op) for op in sorted(set(operators))})
    (logits,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"input": example.numpy()})
    with torch.no_grad():
        difference = float(np.abs(logits - model(example).numpy()).max())
    print(f"largest difference between ONNX and torch on {len(example)} images: {difference:.1e}")
    if difference > 1e-3:
        raise RuntimeError(
            f"{path}: the exported network differs from torch by {difference:.1e}, expected < 1e-3"
        )


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of the convolutions and the dense layer for one image."""
    macs = 0

    def add(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model.eval()(example[:1])
    for hook in hooks:
        hook.remove()
    return macs


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export the demo network.")
    parser.add_argument(
        "--dataset", type=Path, required=True, help="folder of the Fashion-MNIST *-ubyte.gz files"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write the three files to")
    parser.add_argument(
        "--start-from", type=Path, help="ONNX file of an earlier run; default: random weights"
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1, help="the peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument(
        "--block-lasso", type=float, default=0.0, help="strength of the group lasso on 1x4 blocks"
    )
    parser.add_argument("--train-images", type=int, default=60000, help="fewer, for a quick trial")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    train_images = read_idx(options.dataset / "train-images-idx3-ubyte.gz")
    train_labels = read_idx(options.dataset / "train-labels-idx1-ubyte.gz")
    test_images = read_idx(options.dataset / "t10k-images-idx3-ubyte.gz")
    test_labels = read_idx(options.dataset / "t10k-labels-idx1-ubyte.gz")
    x_train, y_train = normalise(train_images), torch.from_numpy(train_labels.astype(np.int64))
    x_test, y_test = normalise(test_images), torch.from_numpy(test_labels.astype(np.int64))

    model = FashionResNet().to(memory_format=torch.channels_last)
    if options.start_from is not None:
        load_weights(model, options.start_from)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {count_macs(model, x_test) / 1e6:.1f} M multiply-accumulates per image")
    start = time.perf_counter()
    train(model, x_train[: options.train_images], y_train[: options.train_images], options)
    print(f"trained in {time.perf_counter() - start:.0f} s")

    options.output.mkdir(parents=True, exist_ok=True)
    chosen = first_of_each_class(test_labels, 100)
    np.savez_compressed(
        options.output / "fashion_test.npz", images=test_images[chosen], labels=test_labels[chosen]
    )
    generator = np.random.default_rng(options.seed)
    calibration = np.sort(generator.choice(len(train_images), 512, replace=False))
    np.savez_compressed(options.output / "fashion_calibration.npz", images=train_images[calibration])
    export(model, options.output / "fashion_resnet.onnx", x_test[:16])

    print(f"float accuracy on the 10000 test images: {accuracy(model, x_test, y_test):.2f} %")
    print(f"float accuracy on fashion_test.npz: {accuracy(model, x_test[chosen], y_test[chosen]):.2f} %")
    subset = torch.from_numpy(generator.choice(len(train_images), 1000, replace=False))
    report_pruning(model, x_train[subset], x_test, y_test)
    for file in sorted(options.output.glob("fashion_*")):
        print(f"{file.name}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
