"""What an initializer says of its own form: metadata that ONNX carries and other runtimes pass over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

SCHEME, STORAGE = "pyruntime.scheme", "pyruntime.storage"


def set_storage(value: ir.Value, scheme: str, storage: Mapping[str, int | str]) -> None:
    """Note the scheme of a weight (free text) and what a storage codec cannot see in its values."""
    value.metadata_props[SCHEME] = scheme
    value.metadata_props[STORAGE] = json.dumps(dict(storage), sort_keys=True)


def storage_of(value: ir.Value) -> tuple[str, dict[str, Any]]:
    """The scheme and storage that a weight states, ("", {}) if it states none that makes sense."""
    try:
        storage = json.loads(value.metadata_props.get(STORAGE, "{}"))
    except ValueError:
        return "", {}
    known = {"group": int, "hashed": int, "float": str}
    if not isinstance(storage, dict) or any(type(x) is not known.get(key) for key, x in storage.items()):
        return "", {}
    if any(isinstance(x, int) and x < 1 for x in storage.values()):
        return "", {}
    return value.metadata_props.get(SCHEME, ""), storage
