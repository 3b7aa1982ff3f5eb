"""InferenceSession: sources, checks of inputs, options, environment, re-entrance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_programs import Builder

import pyruntime as prt
from pyruntime import reference
from pyruntime.program import Program

RNG = np.random.default_rng(0)


@pytest.fixture
def session(packed_file: Path) -> prt.InferenceSession:
    return prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=2))


def batch(n: int) -> np.ndarray:
    return RNG.normal(0, 1, (n, 3, 8, 8)).astype(np.float32)


def test_inputs_and_outputs(session: prt.InferenceSession) -> None:
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.shape, x.type, x.dtype) == (
        "input",
        ["N", 3, 8, 8],
        "tensor(float)",
        np.dtype(np.float32),
    )
    assert (y.name, y.shape, y.type) == ("logits", ["N", 5], "tensor(float)")


def test_outputs_come_as_asked_for() -> None:
    b = Builder()
    x = b.input("f32", ["N"])
    ys = [b.node("mul", [x, b.constant(np.float32([factor]))], "f32") for factor in (2.0, 3.0)]
    session = prt.InferenceSession(b.finish(*ys))
    first, second = (y.name for y in session.get_outputs())
    feed = {session.get_inputs()[0].name: np.ones(1, np.float32)}
    for names in ([second, first], [second], [first, first], []):
        values = [float(y[0]) for y in session.run(names, feed)]
        assert values == [{first: 2.0, second: 3.0}[name] for name in names]
    assert [float(y[0]) for y in session.run(None, feed)] == [2.0, 3.0]


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_run_equals_reference(
    session: prt.InferenceSession, random_program: Callable[[], Program], n: int
) -> None:
    x = batch(n)
    (y,) = session.run(None, {"input": x})
    expected = reference.run(random_program(), {"input": x})["logits"]
    assert y.shape == (n, 5)
    np.testing.assert_array_equal(y, expected)


def test_sources_agree(packed_file: Path, random_program: Callable[[], Program]) -> None:
    x = batch(2)
    sources: list[Any] = [packed_file, str(packed_file), packed_file.read_bytes(), random_program()]
    results = [prt.InferenceSession(source).run(["logits"], {"input": x})[0] for source in sources]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_every_isa_and_thread_count_agrees(packed_file: Path) -> None:
    x = batch(3)
    results = [
        prt.InferenceSession(packed_file, prt.SessionOptions(isa=isa, num_threads=threads)).run(
            None, {"input": x}
        )[0]
        for isa in prt.available_isas()
        for threads in (1, 2, 3)
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, ["'input'", "missing"]),
        ({"inptu": batch(1)}, ["'inptu'", "'input'"]),
        ({"input": batch(1), "more": batch(1)}, ["'more'"]),
        ({"input": batch(1).astype(np.float64)}, ["'input'", "float32", "float64", "[N, 3, 8, 8]"]),
        ({"input": batch(1).astype(">f4")}, ["'input'", "float32", ">f4"]),
        ({"input": batch(1)[0]}, ["'input'", "[N, 3, 8, 8]", "[3, 8, 8]"]),
        ({"input": batch(1)[:, :2].copy()}, ["'input'", "[N, 3, 8, 8]", "[1, 2, 8, 8]"]),
        (
            {"input": batch(1)[:, :, :, ::-1]},
            ["'input'", "expected float32 [N, 3, 8, 8]", "numpy.ascontiguousarray"],
        ),
        ({"input": batch(1).transpose(0, 1, 3, 2)}, ["'input'", "contiguous"]),
        ({"input": batch(1).tolist()}, ["'input'", "list", "float32"]),
        ({"input": None}, ["'input'", "NoneType"]),
    ],
)
def test_bad_inputs(session: prt.InferenceSession, feed: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(prt.DataError) as caught:
        session.run(None, feed)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_unknown_output(session: prt.InferenceSession) -> None:
    with pytest.raises(prt.DataError, match=r"'logit'.*'logits'"):
        session.run(["logit"], {"input": batch(1)})


class OnlyDLPack:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_dlpack(session: prt.InferenceSession) -> None:
    x = batch(2)
    np.testing.assert_array_equal(
        session.run(None, {"input": OnlyDLPack(x)})[0], session.run(None, {"input": x})[0]
    )
    with pytest.raises(prt.DataError, match="float64"):
        session.run(None, {"input": OnlyDLPack(x.astype(np.float64))})


def test_read_only_input_is_taken_and_left_alone(session: prt.InferenceSession) -> None:
    x = batch(2)
    x.flags.writeable = False
    before = x.copy()
    session.run(None, {"input": x})
    np.testing.assert_array_equal(x, before)


def test_outputs_are_new_arrays(session: prt.InferenceSession) -> None:
    x = batch(2)
    (first,) = session.run(None, {"input": x})
    kept = first.copy()
    session.run(None, {"input": batch(2)})
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable


@pytest.mark.parametrize("name", ["avx1024", "AVX2", ""])
def test_unknown_isa(packed_file: Path, name: str) -> None:
    with pytest.raises(prt.OptionError, match="unknown instruction set") as caught:
        prt.InferenceSession(packed_file, prt.SessionOptions(isa=name))
    assert "scalar" in str(caught.value)


def test_unusable_isa(packed_file: Path) -> None:
    foreign = "neondot" if "avx2" in prt.available_isas() or prt.available_isas() == ["scalar"] else "avx2"
    with pytest.raises(prt.OptionError, match=rf"{foreign}.*cannot be used"):
        prt.InferenceSession(packed_file, prt.SessionOptions(isa=foreign))


def test_isa_from_environment(packed_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRUNTIME_ISA", "scalar")
    assert prt.InferenceSession(packed_file).isa == "scalar"
    best = prt.available_isas()[-1]
    assert prt.InferenceSession(packed_file, prt.SessionOptions(isa=best)).isa == best
    monkeypatch.setenv("PYRUNTIME_ISA", "sse9")
    with pytest.raises(prt.OptionError, match=r"PYRUNTIME_ISA.*'sse9'"):
        prt.InferenceSession(packed_file)


def test_threads_from_environment(packed_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRUNTIME_NUM_THREADS", "3")
    assert prt.InferenceSession(packed_file).num_threads == 3
    assert prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=1)).num_threads == 1
    for text in ("0", "-1", "two", "1.5", "4096", " 2"):
        monkeypatch.setenv("PYRUNTIME_NUM_THREADS", text)
        with pytest.raises(prt.OptionError, match="PYRUNTIME_NUM_THREADS"):
            prt.InferenceSession(packed_file)


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "2", 100_000])
def test_bad_thread_count(packed_file: Path, count: Any) -> None:
    with pytest.raises(prt.OptionError, match="num_threads"):
        prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=count))


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(prt.FileFormatError, match=r"missing\.pyrt"):
        prt.InferenceSession(tmp_path / "missing.pyrt")
    with pytest.raises(prt.FileFormatError, match="bytes"):
        prt.InferenceSession(b"not a packed file at all")
    with pytest.raises(prt.OptionError, match="int"):
        prt.InferenceSession(7)  # type: ignore[arg-type]


def test_kernels(session: prt.InferenceSession, random_program: Callable[[], Program]) -> None:
    rows = session.kernels()
    assert [row["node"] for row in rows] == [node.name for node in random_program().nodes]
    for row in rows:
        assert {"node", "op", "kernel", "isa", "precision", "bytes"} <= set(row)
        assert row["isa"] in prt.available_isas()
    precision = {row["node"]: row["precision"] for row in rows}
    assert {precision[name] for name in ("conv1", "conv2", "fc")} <= {"int8", "int8 (block4)"}


def test_profile(packed_file: Path, session: prt.InferenceSession) -> None:
    with pytest.raises(prt.OptionError, match="enable_profiling"):
        session.profile()
    profiled = prt.InferenceSession(packed_file, prt.SessionOptions(enable_profiling=True))
    profiled.run(None, {"input": batch(1)})
    rows = profiled.profile()
    assert {"conv1", "conv2", "fc"} <= {row["node"] for row in rows}


def test_concurrent_runs(session: prt.InferenceSession) -> None:
    inputs = [batch(1 + i % 3) for i in range(8)]
    expected = [session.run(None, {"input": x})[0] for x in inputs]
    results: list[Any] = [None] * len(inputs)

    def work(i: int) -> None:
        for _ in range(20):
            results[i] = session.run(None, {"input": inputs[i]})[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, want)
