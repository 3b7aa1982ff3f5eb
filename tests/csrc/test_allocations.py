"""A run allocates nothing once its plan has run before: all memory of a plan is laid out when it is made."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CC", "cc"))


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None or not hasattr(ctypes.CDLL(None), "__libc_malloc"):
        pytest.skip("needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("counter") / "counter.so"
    source = HERE / "allocation_counter.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("threads", [1, 2])
def test_no_allocation_after_the_first_run(
    counter: Path, threads: int, python: Callable[..., subprocess.Popen[str]]
) -> None:
    import pyruntime

    package = str(Path(pyruntime.__file__).resolve().parent.parent)
    environment = {**os.environ, "LD_PRELOAD": str(counter), "PYTHONPATH": package}
    child = python(HERE / "count_allocations.py", threads, env=environment)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    found = json.loads(output)
    assert len(found) == 5
    for name, (first, later) in found.items():
        assert first > 0, f"{name}: the counter sees nothing"  # the workspace of the plan
        assert later == 0, name
