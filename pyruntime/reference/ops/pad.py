"""Operator `pad`."""

import numpy as np

from pyruntime.program import Array
from pyruntime.reference.call import Call


def pad(call: Call) -> Array:
    """ONNX Pad; negative pads crop first."""
    x, pads = call.array(0), call.attributes["pads"]
    widths = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    crop = tuple(
        slice(max(-low, 0), size - max(-high, 0)) for size, (low, high) in zip(x.shape, widths, strict=True)
    )
    positive = [(max(low, 0), max(high, 0)) for low, high in widths]
    mode = call.attributes["mode"]
    if mode == "constant":
        return np.pad(x[crop], positive, mode="constant", constant_values=call.attributes.get("value", 0))
    return np.pad(x[crop], positive, mode=mode)
