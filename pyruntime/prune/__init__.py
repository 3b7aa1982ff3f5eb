"""Pruning: choose weights that matter little and set them to zero."""

from pyruntime.prune.apply import LayerPruning, PruneReport, prune
from pyruntime.prune.spec import PruneSpec, parse_spec

__all__ = ["LayerPruning", "PruneReport", "PruneSpec", "parse_spec", "prune"]
