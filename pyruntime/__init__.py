"""pyruntime: compress trained networks and run them fast on CPUs.

The public names are loaded on first use, so that `import pyruntime` costs next to nothing and pulls in
neither the converting tools (onnx) nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyruntime.compression import CompressedModel, compress
    from pyruntime.errors import DataError, FileFormatError, ModelError, OptionError, PyruntimeError
    from pyruntime.recipe import Recipe
    from pyruntime.session import InferenceSession, NodeArg, SessionOptions, available_isas, cpu_features

__version__ = "0.1.0"

__all__ = [
    "CompressedModel",
    "DataError",
    "FileFormatError",
    "InferenceSession",
    "ModelError",
    "NodeArg",
    "OptionError",
    "PyruntimeError",
    "Recipe",
    "SessionOptions",
    "__version__",
    "available_isas",
    "compress",
    "cpu_features",
]

_HOME = {
    "CompressedModel": "compression",
    "DataError": "errors",
    "FileFormatError": "errors",
    "InferenceSession": "session",
    "ModelError": "errors",
    "NodeArg": "session",
    "OptionError": "errors",
    "PyruntimeError": "errors",
    "Recipe": "recipe",
    "SessionOptions": "session",
    "available_isas": "session",
    "compress": "compression",
    "cpu_features": "session",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'pyruntime' has no attribute {name!r}")
    value = getattr(import_module(f"pyruntime.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
