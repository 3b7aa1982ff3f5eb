"""The recipe of EfficientNet-Lite0, and how its answers are counted."""

from __future__ import annotations

import numpy as np

import pyruntime as prt
from bench.efficientnet_small import RECIPE, row


def test_recipe() -> None:
    """A mixture for all 50 layers that leaves nothing to search for."""
    recipe = prt.Recipe.of(RECIPE)
    assert not recipe.searches and len(recipe.layers) == 50
    assert len({spec.scheme for spec in recipe.quantize_specs()}) >= 4


def test_row() -> None:
    wanted = np.eye(8)[[0, 1, 2, 3]] + np.linspace(0, 0.1, 8)
    found = wanted.copy()
    found[3] = found[3][::-1]  # answers 4 where the float network says 3
    cells = row(found, wanted, np.array([0, 1, 7, 4])).split(" | ")
    assert cells[0] == "3 of 4" and cells[2] == "3 of 4"
    assert cells[1] == "4 of 4"  # 7 comes second in row 2
    assert 0.7 < float(cells[3]) < 0.8
