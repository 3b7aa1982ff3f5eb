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
import time
from pathlib import Path

import numpy as np
import torch
from fashion_data import read_images
from fashion_networks import BasicBlock
from fashion_training import Training, accuracy, count_macs, export, load_weights, tensors, train
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 4  # consecutive input channels pruned together


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


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices of the first `per_class` samples of every class, in ascending order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)]))


# --- the lasso and one-shot pruning ---


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
    train_set, test_set = read_images(options.dataset, "train"), read_images(options.dataset, "t10k")
    (x_train, y_train), (x_test, y_test) = tensors(train_set), tensors(test_set)

    model = FashionResNet().to(memory_format=torch.channels_last)
    if options.start_from is not None:
        load_weights(model, options.start_from)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {count_macs(model, x_test) / 1e6:.1f} M multiply-accumulates per image")
    start = time.perf_counter()
    training = Training(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        bfloat16=True,
    )

    def shrink(rate: float) -> None:
        shrink_blocks(model, options.block_lasso * rate)

    train(
        model,
        x_train[: options.train_images],
        y_train[: options.train_images],
        training,
        shrink if options.block_lasso > 0 else None,
    )
    print(f"trained in {time.perf_counter() - start:.0f} s")

    options.output.mkdir(parents=True, exist_ok=True)
    chosen = first_of_each_class(test_set.labels, 100)
    np.savez_compressed(
        options.output / "fashion_test.npz", images=test_set.pixels[chosen], labels=test_set.labels[chosen]
    )
    generator = np.random.default_rng(options.seed)
    calibration = np.sort(generator.choice(len(x_train), 512, replace=False))
    np.savez_compressed(options.output / "fashion_calibration.npz", images=train_set.pixels[calibration])
    export(model, options.output / "fashion_resnet.onnx", x_test[:16])

    print(f"float accuracy on the 10000 test images: {accuracy(model, x_test, y_test):.2f} %")
    print(f"float accuracy on fashion_test.npz: {accuracy(model, x_test[chosen], y_test[chosen]):.2f} %")
    subset = torch.from_numpy(generator.choice(len(x_train), 1000, replace=False))
    report_pruning(model, x_train[subset], x_test, y_test)
    for file in sorted(options.output.glob("fashion_*")):
        print(f"{file.name}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
