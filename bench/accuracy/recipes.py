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
MOBILENETS = ("mobilenet", "mobilenet_uneven")
NETWORKS = (*LENETS, *RESNET_VGG, "mobilenet", "transformer")

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A recipe on some networks.

    Attributes:
        title: what it is, for people; the recipe is printed beside it.
        networks: of NETWORKS or MOBILENETS; the uneven one is the other with channels of unlike ranges.
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


def pruned(words: str, recover: tuple[str, ...] = ("obs", "bn"), quantize: str = "none") -> Recipe:
    """Pruned, the rest in float32 or quantized."""
    return {"prune": [words], "quantize": quantize, "recover": list(recover)}


def quantized(words: str, recover: tuple[str, ...] = ()) -> Recipe:
    """Quantized, nothing pruned."""
    return {"quantize": words, "recover": list(recover)}


def beside(title: str, method: Recipe, baseline: Recipe) -> Row:
    """A data-driven method on all networks, beside the naive way."""
    return Row(title, NETWORKS, method, baseline=baseline)


NEAREST = quantized("int8,calibrate=minmax")
ROUNDING = ("obs", "bias")

ROWS = [
    Row("int8 weights and activations", NETWORKS, quantized("int8", ("bias",)), limit=0.2),
    Row("int4 weights", RESNET_VGG, quantized("int4", ROUNDING), limit=0.5),
    Row("int3 weights", RESNET_VGG, quantized("int3", ROUNDING), limit=1.0),
    Row("int2 weights", RESNET_VGG, quantized("int2", ROUNDING), limit=4.0),
    Row("int8, one scale per weight, as it is", MOBILENETS, quantized("int8,per=tensor")),
    Row(
        "int8, one scale per weight, equalized",
        MOBILENETS,
        quantized("int8,per=tensor", ("equalize", "bias")),
        limit=0.5,
    ),
    Row("50 % of the weights", RESNET_VGG, pruned("weight=0.5"), limit=0.3),
    Row("75 % of the weights", RESNET_VGG, pruned("weight=0.75"), limit=1.0),
    Row("2:4", RESNET_VGG, pruned("2:4"), limit=0.7),
    Row("50 % of the 1x4 blocks", RESNET_VGG, pruned("block4=0.5"), limit=0.7),
    Row(
        "30 % of the MACs removed", RESNET_VGG, pruned("filter,macs=0.3,criterion=obs,round_to=8"), limit=0.7
    ),
    Row(
        "50 % of the MACs removed", RESNET_VGG, pruned("filter,macs=0.5,criterion=obs,round_to=8"), limit=2.0
    ),
    Row(
        "50 % of the MACs removed, of all layers alike",
        RESNET_VGG,
        pruned("filter,macs=0.5,criterion=obs,round_to=8,scope=layer"),
        limit=2.0,
    ),
    Row(
        "65 % of the MACs removed", RESNET_VGG, pruned("filter,macs=0.65,criterion=obs,round_to=8"), limit=2.0
    ),
    Row("int8, smoothed", ("transformer",), quantized("int8", ("smooth", *ROUNDING)), limit=0.5),
    Row(
        "50 % of the weights, int8",
        ("transformer",),
        pruned("weight=0.5", ("obs", "bn", "bias"), quantize="int8"),
        limit=1.0,
    ),
    Row(
        "best recipe: 93 % of the weights pruned, int4",
        ("lenet_300_100",),
        pruned("weight=0.93", ("obs", "bn", "bias"), quantize="int4,ends=same"),
        limit=0.3,
        smaller=25,
    ),
    Row(
        "best recipe: 92 % of the weights pruned, int4",
        ("lenet_5",),
        pruned("weight=0.92", ("obs", "bn", "bias"), quantize="int4,ends=same"),
        limit=0.3,
        smaller=25,
    ),
    Row("fp8 e4m3 weights", RESNET_VGG, quantized("fp8_e4m3", ROUNDING), limit=0.3),
    Row("16-entry codebook", RESNET_VGG, quantized("codebook=16", ROUNDING), limit=0.5),
    Row("hashed to a half", RESNET_VGG, quantized("hashed=0.5", ROUNDING)),
    # Data-driven methods beside the naive ones.
    beside("Wanda criterion, 50 % of the weights", weights(0.5, criterion="wanda"), weights(0.5)),
    beside("Taylor criterion, 50 % of the weights", weights(0.5, criterion="taylor"), weights(0.5)),
    beside("OBS criterion, 50 % of the weights", weights(0.5, criterion="obs"), weights(0.5)),
    beside(
        "Taylor criterion, 30 % of the MACs of channels",
        pruned("filter,macs=0.3,criterion=taylor", ()),
        pruned("filter,macs=0.3", ()),
    ),
    beside(
        "OBS criterion, 30 % of the MACs of channels",
        pruned("filter,macs=0.3,criterion=obs", ()),
        pruned("filter,macs=0.3", ()),
    ),
    beside("OBS weight update, 75 % of the weights", weights(0.75, recover=("obs",)), weights(0.75)),
    beside("statistics matched, 75 % of the weights", weights(0.75, recover=("bn",)), weights(0.75)),
    beside(
        "OBS weight update, 30 % of the MACs of channels",
        pruned("filter,macs=0.3", ("obs",)),
        pruned("filter,macs=0.3", ()),
    ),
    beside("MSE ranges, int8", quantized("int8,calibrate=mse"), NEAREST),
    beside("percentile ranges, int8", quantized("int8,calibrate=percentile"), NEAREST),
    beside("entropy ranges, int8", quantized("int8,calibrate=entropy"), NEAREST),
    beside("averaged ranges, int8", quantized("int8,calibrate=average"), NEAREST),
    beside("bias correction, int8", quantized("int8,calibrate=minmax", ("bias",)), NEAREST),
    beside("rounding with error feedback, int8", quantized("int8,calibrate=minmax", ("obs",)), NEAREST),
    beside("smoothing, int8", quantized("int8,calibrate=minmax", ("smooth",)), NEAREST),
    beside(
        "equalization, int8 per tensor",
        quantized("int8,per=tensor,calibrate=minmax", ("equalize",)),
        quantized("int8,per=tensor,calibrate=minmax"),
    ),
    beside("rounding with error feedback, int4", quantized("int4", ("obs",)), quantized("int4")),
    beside("learned rounding, int4", quantized("int4", ("adaround",)), quantized("int4", ("obs",))),
]
