"""The rows of `docs/results.md`: which recipe on which networks, and how many points it may lose.

A row with a `baseline` is a data-driven method beside the naive way to the same form: magnitude instead of a
criterion that looks at data, round-to-nearest instead of chosen rounding, min-max ranges, no recovery.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LENETS = ("lenet_300_100", "lenet_5")
RESNET_VGG = ("resnet_20", "vgg_small")
NETWORKS = (*LENETS, *RESNET_VGG, "mobilenet", "transformer")

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A recipe on some networks.

    Attributes:
        title: what it is, for people; the recipe is printed beside it.
        networks: keys of NETWORKS.
        recipe: entries of `pyruntime.Recipe`.
        limit: points of accuracy it may lose, None where nothing is promised.
        smaller: how many times smaller than the float32 weights the file must be.
        baseline: the naive recipe it has to beat.
    """

    title: str
    networks: tuple[str, ...]
    recipe: Recipe
    limit: float | None = None
    smaller: float | None = None
    baseline: Recipe | None = None


def weights(amount: float, *, criterion: str = "magnitude", recover: tuple[str, ...] = ()) -> Recipe:
    """Single weights pruned, the rest in float32."""
    return {
        "prune": [f"weight={amount},criterion={criterion}"],
        "quantize": "none",
        "recover": list(recover),
    }


def pruned(words: str, recover: tuple[str, ...] = ("obs", "bn")) -> Recipe:
    """Pruned weights in float32."""
    return {"prune": [words], "quantize": "none", "recover": list(recover)}


def quantized(words: str, recover: tuple[str, ...] = ()) -> Recipe:
    """Quantized, nothing pruned."""
    return {"quantize": words, "recover": list(recover)}


ROWS = [
    Row("int8 weights and activations", NETWORKS, quantized("int8", ("bias",)), limit=0.2),
    Row("50 % of the weights", RESNET_VGG, pruned("weight=0.5"), limit=0.3),
    Row("75 % of the weights", RESNET_VGG, pruned("weight=0.75"), limit=1.0),
    Row("2:4", RESNET_VGG, pruned("2:4"), limit=0.7),
    Row("50 % of the 1x4 blocks", RESNET_VGG, pruned("block4=0.5"), limit=0.7),
    # Data-driven methods beside the naive ones.
    Row(
        "OBS weight update, 75 % of the weights",
        NETWORKS,
        pruned("weight=0.75", ("obs",)),
        baseline=pruned("weight=0.75", ()),
    ),
    Row(
        "batch norm re-estimated, 75 % of the weights",
        NETWORKS,
        pruned("weight=0.75", ("bn",)),
        baseline=pruned("weight=0.75", ()),
    ),
    Row(
        "MSE ranges, int8",
        NETWORKS,
        quantized("int8,calibrate=mse"),
        baseline=quantized("int8,calibrate=minmax"),
    ),
    Row(
        "percentile ranges, int8",
        NETWORKS,
        quantized("int8,calibrate=percentile"),
        baseline=quantized("int8,calibrate=minmax"),
    ),
]
