"""Packed files: `write` a program, `read` it back decoded (docs/format.md). NumPy and safetensors only."""

from pyruntime.pack.reader import read, read_stored
from pyruntime.pack.writer import PackReport, TensorReport, dumps, write

__all__ = ["PackReport", "TensorReport", "dumps", "read", "read_stored", "write"]
