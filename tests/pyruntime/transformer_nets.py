"""The encoder of bench/models/bert.py in a small size, and data for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

SCRIPT = Path(__file__).parents[2] / "bench" / "models" / "bert.py"
VOCABULARY, POSITIONS = 100, 64


def script() -> ModuleType:
    """bench/models/bert.py, which is no package."""
    if "bert" not in sys.modules:
        spec = importlib.util.spec_from_file_location("bert", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["bert"] = module
        spec.loader.exec_module(module)
    return sys.modules["bert"]


def tiny_bert() -> onnx.ModelProto:
    """Two layers, 48 wide, 4 heads; inputs [N, S]."""
    weights = script().random_weights("tiny", VOCABULARY, POSITIONS)
    return script().build(weights, script().SIZES["tiny"][2])


def sentences(count: int, length: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of the encoder; the last sentence is half padding."""
    rng = np.random.default_rng(seed)
    mask = np.ones((count, length), np.int64)
    mask[-1, (length + 1) // 2 :] = 0
    return {
        "input_ids": rng.integers(0, VOCABULARY, (count, length)),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (count, length)),
    }
