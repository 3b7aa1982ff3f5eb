"""Train the networks of the accuracy table on Fashion-MNIST and export them to ONNX.

    python bench/models/train_fashion_networks.py --dataset FOLDER --output bench/models [--only NAME]...

FOLDER holds the four idx files of Fashion-MNIST, as `*-ubyte.gz` (Debian: package `dataset-fashion-mnist`).
Needs torch and onnx. Writes `fashion_<name>.onnx` for every name of NETWORKS: float32, opset 17, `input`
[N, 1, 28, 28] = (pixel / 255 - 0.2860) / 0.3530, `logits` [N, 10]. BatchNormalization nodes are kept, not
folded, so that tools can re-estimate their statistics.

All are trained by cross entropy with label smoothing and random shifts and flips. The two LeNets have an L1
penalty on their weights besides: it is what makes them easy to prune without retraining; no weight is set to
zero here. The weights of the last epoch are kept; the test images choose nothing.

The run is seeded; a different CPU, thread count or torch build adds up in another order and ends a little
elsewhere.
"""

import argparse
import time
from pathlib import Path

import torch
from fashion_data import read_images
from fashion_networks import LeNet5, LeNet300, MobileNet, ResNet20, Transformer, VggSmall
from fashion_training import Training, accuracy, count_macs, export, tensors, train

NETWORKS = {
    "lenet_300_100": (
        LeNet300,
        Training(epochs=25, weight_decay=0, l1=3e-5, learning_rate=0.1, shift=0, flip=False),
    ),
    "lenet_5": (
        LeNet5,
        Training(epochs=8, weight_decay=0, l1=3e-5, learning_rate=0.05, shift=0, flip=False),
    ),
    "resnet_20": (ResNet20, Training(epochs=4, coarse_epochs=3, learning_rate=0.15, shift=1)),
    "vgg_small": (VggSmall, Training(epochs=3, shift=1, learning_rate=0.08)),
    "mobilenet": (MobileNet, Training(epochs=4, coarse_epochs=3, weight_decay=4e-4, shift=1)),
    "transformer": (
        Transformer,
        Training(epochs=4, optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, shift=0, flip=False),
    ),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export the networks of the accuracy table.")
    parser.add_argument(
        "--dataset", type=Path, required=True, help="folder of the Fashion-MNIST *-ubyte.gz files"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write the ONNX files to")
    parser.add_argument("--only", action="append", choices=sorted(NETWORKS), help="repeatable; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    x_train, y_train = tensors(read_images(options.dataset, "train"))
    x_test, y_test = tensors(read_images(options.dataset, "t10k"))
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only or NETWORKS:
        network, training = NETWORKS[name]
        torch.manual_seed(options.seed)
        model = network().to(memory_format=torch.channels_last)
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{name}: {parameters} parameters, {count_macs(model, x_test) / 1e6:.1f} M multiply-accumulates"
        )
        start = time.perf_counter()
        train(model, x_train, y_train, training)
        print(f"{name}: trained in {time.perf_counter() - start:.0f} s")
        export(model, options.output / f"fashion_{name}.onnx", x_test[:16])
        print(f"{name}: {accuracy(model, x_test, y_test):.2f} % of the 10000 test images", flush=True)


if __name__ == "__main__":
    main()
