"""Metadata of a weight, as written here and as others may have written it."""

import numpy as np
import onnx_ir as ir
import pytest

from pyruntime.graph import set_storage, storage_of
from pyruntime.graph.storage import STORAGE


def weight() -> ir.Value:
    return ir.Value(name="w", const_value=ir.tensor(np.zeros(3, np.float32)))


def test_what_is_set_comes_back() -> None:
    value = weight()
    assert storage_of(value) == ("", {})
    set_storage(value, "int4 group=32", {"group": 32})
    assert storage_of(value) == ("int4 group=32", {"group": 32})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"group": "x"}', '{"group": true}', '{"group": 0}', '{"other": 1}', '{"float": 3}']
)
def test_nonsense_counts_as_nothing(text: str) -> None:
    value = weight()
    set_storage(value, "int4", {})
    value.metadata_props[STORAGE] = text
    assert storage_of(value) == ("", {})
