"""The networks that race, and by how much we are to win."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Speed does not depend on how well accuracy is recovered; `bn` keeps a pruned network from going dead.
INT8: Mapping[str, Any] = {"quantize": "int8", "recover": []}
FLOAT: Mapping[str, Any] = {"quantize": "none", "recover": []}


def _pruned(text: str) -> Mapping[str, Any]:
    return {"prune": [text], "quantize": "int8", "recover": ["bn"]}


@dataclass(frozen=True)
class Network:
    """One row of the race.

    Attributes:
        source: key of `sources.SOURCES`.
        recipe: what `pyruntime.compress` makes of it.
        at_least, aim: how many times faster than the fastest peer we are to be.
        dense: the network of NETWORKS this one is a smaller form of; that races beside it.
        products: its layers are products of matrices, which ONNX Runtime also quantizes dynamically.
        transformer: OpenVINO is faster on it with s8 activations.
        any_batch: whether the file leaves the batch open.
    """

    name: str
    source: str
    at_least: float
    aim: float
    recipe: Mapping[str, Any] = field(default_factory=lambda: INT8)
    dense: str = ""
    products: bool = False
    transformer: bool = False
    any_batch: bool = True

    @property
    def is_float(self) -> bool:
        """All of its layers are kept in float, and race those of the peers."""
        return self.recipe["quantize"] == "none"


NETWORKS = [
    Network("resnet50", "resnet50", 2.0, 3.0),
    Network("mobilenet_v2", "mobilenet_v2", 2.0, 3.0),
    Network("efficientnet_lite0", "efficientnet_lite0", 2.0, 3.0),
    Network("detector_416", "detector", 3.0, 5.0, any_batch=False),
    Network("bert_base_128", "bert_base", 2.0, 4.0, products=True, transformer=True),
    Network("minilm_l6_128", "minilm_l6", 2.5, 5.0, products=True, transformer=True),
    Network("mlp", "mlp", 1.0, 1.1, products=True),
    Network(
        "mlp_int4",
        "mlp",
        1.7,
        1.9,
        {"quantize": "int4,group=32", "recover": []},
        dense="mlp",
        products=True,
    ),
    Network("mlp_unstructured_90", "mlp", 2.0, 2.5, _pruned("weight=0.9"), dense="mlp", products=True),
    Network("mlp_blocks_90", "mlp", 5.0, 7.0, _pruned("block4=0.9"), dense="mlp", products=True),
    Network("resnet50_blocks_90", "resnet50", 2.0, 3.0, _pruned("block4=0.9"), dense="resnet50"),
    Network(
        "resnet50_blocks_90_each",
        "resnet50",
        2.0,
        3.0,
        _pruned("block4=0.9,scope=layer"),
        dense="resnet50",
    ),
    Network("resnet50_half_macs", "resnet50", 3.0, 5.0, _pruned("channel,macs=0.5"), dense="resnet50"),
    Network("resnet50_float", "resnet50", 1.0, 1.2, FLOAT),
    Network("mobilenet_v2_float", "mobilenet_v2", 1.0, 1.2, FLOAT),
    Network("efficientnet_lite0_float", "efficientnet_lite0", 1.0, 1.2, FLOAT),
    Network("detector_416_float", "detector", 1.0, 1.2, FLOAT, any_batch=False),
    Network("minilm_l6_128_float", "minilm_l6", 1.0, 1.2, FLOAT),
    Network("mlp_float", "mlp", 1.0, 1.2, FLOAT),
]

# For the tests: the same path in seconds.
TINY = [
    Network("tiny", "tiny", 1.0, 1.0),
    Network("tiny_blocks_75", "tiny", 1.0, 1.0, _pruned("block4=0.75"), dense="tiny"),
    Network("tiny_bert", "tiny_bert", 1.0, 1.0, products=True, transformer=True),
    Network("tiny_float", "tiny", 1.0, 1.0, FLOAT),
]


def find(name: str) -> Network:
    return next(network for network in [*NETWORKS, *TINY] if network.name == name)
