"""What a layer may become: the rows of the table that `sensitivity` measures and the search chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyruntime.layers import Layer
from pyruntime.prune import granularity
from pyruntime.prune.spec import PruneSpec
from pyruntime.prune.spec import parse_spec as parse_prune
from pyruntime.quantize.spec import QuantizeSpec
from pyruntime.quantize.spec import parse_spec as parse_quantize


@dataclass(frozen=True)
class Option:
    """One form of a layer, in the words of the command line.

    Attributes:
        quantize: word of `--quantize`.
        prune: head of a word of `--prune` that sets weights to zero, e.g. `weight=0.5`; "" prunes nothing.
    """

    quantize: str = "int8"
    prune: str = ""

    @property
    def label(self) -> str:
        return f"{self.prune} {self.quantize}".strip()

    @property
    def quantize_spec(self) -> QuantizeSpec:
        return parse_quantize(self.quantize)

    @property
    def prune_spec(self) -> PruneSpec | None:
        return parse_prune(self.prune) if self.prune else None

    def fits(self, layer: Layer) -> bool:
        """Whether the layer can take this form. Depthwise layers have too few weights to do without some."""
        spec = self.prune_spec
        if spec is None:
            return True
        pattern = granularity.find(spec.granularity)
        assert pattern is not None
        return not layer.depthwise and not pattern.skip_reason(layer.array().shape[-1], layer.depthwise)


def combined(prunes: Sequence[str], quantizes: Sequence[str]) -> list[Option]:
    """Every pruning with every scheme."""
    return [Option(quantize, prune) for prune in prunes for quantize in quantizes]


BASE = Option()  # what int8 makes of a layer
# What `pyruntime sensitivity` shows.
SHOWN = (
    *combined([""], ["int8", "int6", "int4", "int3", "int2", "codebook=16", "fp8_e4m3"]),
    *combined(["weight=0.5", "weight=0.75", "weight=0.9", "2:4", "block4=0.5", "block4=0.75"], ["int8"]),
)
