"""What the training scripts of this folder share: augmentation, the training loop, accuracy, ONNX export."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import torch
from fashion_data import PIXEL_MEAN, PIXEL_STD, Images, normalise
from torch import Tensor, nn
from torch.nn import functional

OPSET = 17


@dataclass(frozen=True)
class Training:
    """The settings of one training. `l1` adds l1 * sum |w| over all weight matrices to the loss."""

    epochs: int
    batch: int = 128
    optimizer: str = "sgd"  # "sgd" (Nesterov momentum 0.9) or "adamw"
    learning_rate: float = 0.1  # the peak of the one-cycle schedule
    weight_decay: float = 1e-3
    l1: float = 0.0
    coarse_epochs: int = 0  # so many epochs first on images averaged to 14x14, at a quarter of the cost
    shift: int = 2  # augmentation: pixels each way
    flip: bool = True  # augmentation: half of the images left to right
    label_smoothing: float = 0.05
    bfloat16: bool = False


def tensors(images: Images) -> tuple[Tensor, Tensor]:
    """The normalised pixels float32 [N, 1, 28, 28] and the labels int64 [N]."""
    return torch.from_numpy(normalise(images.pixels)), torch.from_numpy(images.labels.astype(np.int64))


def augment(x: Tensor, shift: int, flip: bool) -> Tensor:
    """Shift each image by up to `shift` pixels each way (black comes in); flip half of them left to right."""
    count, _, height, width = x.shape
    black = -PIXEL_MEAN / PIXEL_STD
    padded = functional.pad(x, (shift,) * 4, value=black)[:, 0]
    steps = 2 * shift + 1
    rows = torch.randint(0, steps, (count, 1, 1)) + torch.arange(height)[None, :, None]
    columns = torch.randint(0, steps, (count, 1, 1)) + torch.arange(width)[None, None, :]
    if flip:
        columns = torch.where(torch.rand(count, 1, 1) < 0.5, columns.flip(2), columns)
    return padded[torch.arange(count)[:, None, None], rows, columns].unsqueeze(1)


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels alone; normalisation and biases have none."""
    groups = [
        {
            "params": [p for p in model.parameters() if p.ndim > 1],
            "weight_decay": training.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate)
    return torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9, nesterov=True)


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    training: Training,
    after_step: Callable[[float], None] | None = None,
) -> None:
    """Cross entropy, one-cycle learning rate, random shifts and flips; keeps the weights of the last epoch.

    after_step: called with the learning rate after every update.
    """
    optimizer = make_optimizer(model, training)
    steps = len(images) // training.batch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.epochs * steps, cycle_momentum=False
    )
    matrices = [p for p in model.parameters() if p.ndim > 1]
    for epoch in range(training.epochs):
        model.train()
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images))[: steps * training.batch].reshape(steps, training.batch)
        for batch in order:
            x = augment(images[batch], training.shift, training.flip)
            if epoch < training.coarse_epochs:
                x = functional.avg_pool2d(x, 2)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=training.bfloat16):
                logits = model(x)
            loss = functional.cross_entropy(
                logits.float(), labels[batch], label_smoothing=training.label_smoothing
            )
            total += loss.item()
            if training.l1 > 0:
                loss = loss + training.l1 * sum(p.abs().sum() for p in matrices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if after_step is not None:
                after_step(scheduler.get_last_lr()[0])
            scheduler.step()
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}, {time.perf_counter() - start:.0f} s", flush=True)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of float32 predictions that are right, in evaluation mode."""
    model.eval()
    predictions = torch.cat([model(x).argmax(1) for x in images.split(500)])
    return 100 * (predictions == labels).float().mean().item()


# --- export ---


def undo_sharing(proto: onnx.ModelProto) -> None:
    """The exporter stores equal initializers once, behind Identity nodes; give every node its own copy again.

    It happens because biases that start equal and get the same gradients stay equal (a residual sum's two).
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [n for n in proto.graph.node if n.op_type == "Identity" and n.input[0] in stored]:
        copy = proto.graph.initializer.add()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        proto.graph.node.remove(node)


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the initializers of a network exported by `export` back into the model."""
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
        # The TorchScript exporter is deprecated, but it alone keeps batch norm nodes.
        warnings.simplefilter("ignore")
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
    """Multiply-accumulates of the convolutions and dense layers for one image."""
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
