"""NumPy's matrix products on one thread, and so the same bytes whatever the number of threads."""

import os
import subprocess
import sys
import threading

import numpy as np
from onnx import helper
from threadpoolctl import threadpool_info, threadpool_limits
from toolmodels import build, he

from pyruntime import compress
from pyruntime.blas import single_threaded
from pyruntime.search import Option, measure

WIDTH = 128  # wide enough for OpenBLAS to split its products


def dense_net():
    rng = np.random.default_rng(0)
    return build(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first", transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "v", "b"], ["y"], name="last", transB=1),
        ],
        {"w": he(rng, WIDTH, WIDTH), "v": he(rng, WIDTH, WIDTH), "b": he(rng, WIDTH)},
        {"x": ["N", WIDTH]},
        {"y": ["N", WIDTH]},
    )


def samples():
    return {"x": np.random.default_rng(1).normal(size=(512, WIDTH)).astype(np.float32)}


def threads():
    return [entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"]


def test_the_bytes_do_not_depend_on_threads(tmp_path):
    """Each number of threads in a process of its own, as the environment sets it."""
    files = []
    for number in ("1", "2"):
        path = tmp_path / f"{number}.pyrt"
        settings = {"OPENBLAS_NUM_THREADS": number, "PYRUNTIME_NUM_THREADS": number}
        subprocess.run([sys.executable, __file__, str(path)], env={**os.environ, **settings}, check=True)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_former_threads_come_back():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with single_threaded():
            assert set(threads()) == {1}
            with single_threaded():
                pass
            assert set(threads()) == {1}
        assert threads() == before


def test_threads_take_turns():
    seen, inside, leave = [], threading.Event(), threading.Event()

    @single_threaded()
    def first():
        inside.set()
        leave.wait(10)
        seen.append("first")

    @single_threaded()
    def second():
        seen.extend(("second", threads()))

    workers = [threading.Thread(target=work) for work in (first, second)]
    workers[0].start()
    assert inside.wait(10)
    workers[1].start()
    workers[1].join(0.2)  # it has to wait
    leave.set()
    for worker in workers:
        worker.join()
    assert seen[:2] == ["first", "second"]
    assert set(seen[2]) == {1}


def test_the_table_is_measured_on_one_thread():
    seen = []
    with threadpool_limits(2, user_api="blas"):
        measure(dense_net(), samples(), [Option("int4")], progress=lambda *_: seen.append(threads()))
    assert seen
    assert {number for entry in seen for number in entry} == {1}


if __name__ == "__main__":
    compress(dense_net(), {"prune": ["weight=0.5"], "quantize": "int8"}, samples()).save(sys.argv[1])
