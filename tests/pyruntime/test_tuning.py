"""Tunings: what a session makes of one, every candidate's answers, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_programs import Builder, assert_same, core_session

import pyruntime as prt
from pyruntime import _core, reference
from pyruntime.program import Program
from pyruntime.session import resolved_machine
from pyruntime.tuning import Choices, file_text, read_file, this_machine

ISAS = _core.available_isas()


def layers() -> tuple[Builder, Program]:
    """A window, one of stride 2, a sparse one with a residual, groups, depthwise, and a dense layer of zeros
    in blocks.
    """
    b = Builder(3)
    x = b.input("u8", ["N", 8, 13, 13], 0.25, 7)
    y = b.conv(x, 8, 64, (3, 3), pads=(1, 1, 1, 1))
    z = b.conv(y, 64, 64, (1, 1), residual=y, density=0.1)
    z = b.conv(z, 64, 80, (3, 3), strides=(2, 2), density=0.3)
    z = b.conv(z, 80, 80, (3, 3), pads=(1, 1, 1, 1), groups=80)
    z = b.conv(z, 80, 80, (1, 1), groups=5)
    flat = b.node("reshape", [z], "u8", 0.5, 11, shape=[0, -1])
    w = b.weights(32, 80 * 36)
    w.reshape(32, -1, 4)[b.rng.random((32, 80 * 9)) < 0.9] = 0
    dense = b.node("dense", [flat, b.constant(w), *b.scales(32, 288)], "f32")
    return b, b.finish(dense)


def candidates(program: Program, feed: dict[str, Any], isa: str, threads: int) -> list[dict[str, Any]]:
    session = core_session(program, isa, threads, list_candidates=True)
    session.run([feed[name] for name in program.inputs])
    return list(session.tuning())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_every_candidate_gives_the_same_answers(isa: str, threads: int) -> None:
    b, program = layers()
    feed = b.feed(N=2)
    expected = reference.run(program, feed)[program.outputs[0]]
    rows = candidates(program, feed, isa, threads)
    assert len(rows) == 6
    options = [[choice for choice, _ in row["rows"]] + row["divisions"] for row in rows]
    for n in range(max(map(len, options))):
        tuning = {row["signature"]: o[n % len(o)] for row, o in zip(rows, options, strict=True)}
        session = core_session(program, isa, threads, tuning=tuning)
        (got,) = session.run([feed[name] for name in program.inputs])
        assert_same(got, expected, f"{isa} {threads} {tuning}")
        for row in session.tuning():
            assert row["tuned"] and row["choice"].startswith(tuning[row["signature"]])
            assert row["rows"] == row["divisions"] == []  # nobody asked for them
        assert all(row["tuned"] == (row["op"] in ("conv", "dense")) for row in session.kernels())


def test_candidates_are_listed_by_cost() -> None:
    b, program = layers()
    rows = candidates(program, b.feed(N=1), "", 2)
    assert len({row["signature"] for row in rows}) == len(rows)
    for row in rows:
        cycles = [cost for _, cost in row["rows"]]
        assert cycles == sorted(cycles) and cycles[-1] < 3 * cycles[0]
        assert row["choice"].startswith(row["rows"][0][0]) or cycles[0] == cycles[1]
        assert len(set(row["divisions"])) == len(row["divisions"]) <= 7
    shapes = candidates(program, b.feed(N=3), "", 2)
    assert not {row["signature"] for row in rows} & {row["signature"] for row in shapes}


def test_signature_outlives_another_training() -> None:
    """Other weights of the same kind have the same signature; more zeros another one."""

    def signature(seed: int, density: float) -> str:
        b = Builder(seed)
        x = b.input("u8", ["N", 256], 0.25, 7)
        w = b.constant(b.weights(256, 256, density=density))
        program = b.finish(b.node("dense", [x, w, *b.scales(256, 256)], "u8", 0.5, 11))
        (row,) = candidates(program, b.feed(N=1), "", 1)
        return str(row["signature"])

    assert signature(0, 0.21) == signature(1, 0.2)
    assert signature(0, 0.2) != signature(1, 0.3)


def test_sessions_without_a_tuning_report_none() -> None:
    _, program = layers()
    session = core_session(program)
    assert session.tuning() == []
    assert not any(row["tuned"] for row in session.kernels())


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, sideways", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, merged=0", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, plain, 2", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, plain, 0x1", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, plain, 2x-1", "expected"),
        ("conv_int8_u8s8s32_1x1x1__scalar, plain, 99999999999999999999x1", "expected"),
        ("conv_int8_u8s8s32_9x9x9__z80, plain", "no kernel 'conv_int8_u8s8s32_9x9x9__z80'"),
    ],
)
def test_choices_that_cannot_be_read(choice: str, words: str) -> None:
    with pytest.raises(_core.CoreError, match=words):
        _core.check_tuning({"conv": choice})


def test_choices_that_cannot_run() -> None:
    b, program = layers()
    feed = b.feed(N=1)
    rows = candidates(program, feed, "", 1)
    merged = "conv_int8_u8s8s32_1x1x1__scalar, merged=7, 1x1"
    for row in rows:  # the depthwise layer has another family of kernels
        session = core_session(program, tuning={row["signature"]: merged})  # sizes are not known yet
        with pytest.raises(_core.CoreError, match=f"node '{row['node']}'.*tune the model again"):
            session.run([feed[name] for name in program.inputs])
    parts = {row["signature"]: row["choice"].rpartition(", ")[0] + ", 1048576x1048576" for row in rows}
    core_session(program, tuning=parts).run([feed[name] for name in program.inputs])  # as many as there are


def write(path: Path, machines: dict[Any, Choices]) -> Path:
    path.write_text(file_text(machines))
    return path


@pytest.fixture
def layer_choices(random_program: Callable[[], Program]) -> Choices:
    """The cost models' own choices for the packed file, on one thread."""
    rows = core_session(random_program(), list_candidates=True).tuning()
    return {row["signature"]: row["choice"] for row in rows}


def test_session_takes_a_file(packed_file: Path, tmp_path: Path, layer_choices: Choices) -> None:
    signature = next(iter(layer_choices))
    scalar = "conv_int8_u8s8s32_1x1x1__scalar, plain, 2x1"
    machines = {this_machine(isa, n): layer_choices for isa in ISAS for n in (1, 2)}
    machines[resolved_machine("", 1)] = {**dict.fromkeys(layer_choices), signature: scalar}
    path = write(tmp_path / "t.json", machines)
    assert read_file(path) == machines
    x = {"input": np.random.default_rng(0).normal(0, 1, (3, 3, 8, 8)).astype(np.float32)}
    session = prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=1, tuning=path))
    assert [row["kernel"] for row in session.kernels() if row["tuned"]] == [scalar.partition(",")[0]]
    plain = prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=1))
    np.testing.assert_array_equal(session.run(None, x)[0], plain.run(None, x)[0])


def test_file_for_another_machine_or_model(packed_file: Path, tmp_path: Path, layer_choices: Choices) -> None:
    path = write(tmp_path / "t.json", {resolved_machine("", 1): layer_choices})
    with pytest.raises(prt.OptionError, match=r"has .* 1 thread, .*; expected .* 2 threads, "):
        prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=2, tuning=path))
    write(path, {})
    with pytest.raises(prt.OptionError, match="has nothing; expected"):
        prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=1, tuning=path))
    write(path, {resolved_machine("", 1): {"dense 1->1 on 1x1x1": None}})
    with pytest.raises(prt.OptionError, match="none of the 3 different integer layers"):
        prt.InferenceSession(packed_file, prt.SessionOptions(num_threads=1, tuning=path))


MACHINE = {"cpu": "x", "isa": "avx2", "threads": 1, "pyruntime": prt.__version__}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100000, "no JSON"),
        ([], "no tuning file of version 1"),
        ({"format": "pyruntime tuning", "version": 2, "machines": []}, "no tuning file of version 1"),
        ({"format": "pyruntime tuning", "version": 1}, "damaged"),
        ({"format": "pyruntime tuning", "version": 1, "machines": [1]}, "damaged"),
        ({"format": "pyruntime tuning", "version": 1, "machines": [MACHINE]}, "damaged"),
        (
            {"format": "pyruntime tuning", "version": 1, "machines": [{**MACHINE, "layers": {"a": 1}}]},
            "damaged",
        ),
        (
            {"format": "pyruntime tuning", "version": 1, "machines": [{**MACHINE, "cpu": [], "layers": {}}]},
            "damaged",
        ),
        (
            {
                "format": "pyruntime tuning",
                "version": 1,
                "machines": [{**MACHINE, "threads": "1", "layers": {}}],
            },
            "damaged",
        ),
        (
            {
                "format": "pyruntime tuning",
                "version": 1,
                "machines": [{**MACHINE, "layers": {"a": "conv_int8_z80, plain"}}],
            },
            "this build has no kernel 'conv_int8_z80'",
        ),
    ],
)
def test_files_that_are_wrong(packed_file: Path, tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(prt.OptionError, match=words) as caught:
        prt.InferenceSession(packed_file, prt.SessionOptions(tuning=path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(packed_file: Path, tmp_path: Path) -> None:
    for tuning, words in (
        (tmp_path / "absent.json", "no such file; make it with `pyruntime tune`"),
        (tmp_path, "cannot be read"),
        (7, "expected the path of a file, got int"),
    ):
        with pytest.raises(prt.OptionError, match=words):
            prt.InferenceSession(packed_file, prt.SessionOptions(tuning=tuning))  # type: ignore[arg-type]


def test_kernels_of_other_versions_are_not_looked_at(tmp_path: Path) -> None:
    old = {**MACHINE, "pyruntime": "0.0.1", "layers": {"a": "conv_int8_z80, plain"}}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"format": "pyruntime tuning", "version": 1, "machines": [old]}))
    assert len(read_file(path)) == 1
