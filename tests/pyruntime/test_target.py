"""The words of --target and of --quantize mixed."""

from __future__ import annotations

import pytest

from pyruntime.errors import OptionError
from pyruntime.target import Target, is_mixed, parse_mixed, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size=0.25", Target("size", 0.25, relative=True)),
        ("size=2.5MB", Target("size", 2.5e6)),
        ("size=300 kB", Target("size", 3e5)),
        ("latency=.5", Target("latency", 0.5, relative=True)),
        ("latency=1.5ms", Target("latency", 1500.0)),
        ("latency=80us", Target("latency", 80.0)),
        ("accuracy_drop=0", Target("accuracy_drop", 0.0)),
        ("accuracy_drop=0.5", Target("accuracy_drop", 0.5)),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    found = parse_target(text)
    assert found == Target(expected.kind, pytest.approx(expected.value), expected.relative, True, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed=2", "expected one of: size, latency, accuracy_drop"),
        ("size", "expected for example size=0.25 or size=2.5MB"),
        ("size=big", "'big' is not a number"),
        ("size=2", "share of the float32 network's"),
        ("size=0", "share of the float32 network's"),
        ("size=2ms", "unit 'ms' is unknown; expected one of: B, kB, MB, GB"),
        ("size=-1MB", "is not a number"),
        ("latency=0ms", "unit"),
        ("accuracy_drop=0.5ms", "without a unit"),
        ("accuracy_drop=100", "from 0 to 100"),
        ("accuracy_drop=nan", "is not a number"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_target(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mixed() -> None:
    assert is_mixed("mixed,bits=4") and is_mixed("mixed") and not is_mixed("int8") and not is_mixed(8)
    text = "mixed,bits=4.5,calibrate=minmax"
    assert parse_mixed(text) == (Target("bits", 4.5, prune=False, text=text), "int8,calibrate=minmax")
    text = "mixed,drop=0.5"
    assert parse_mixed(text) == (Target("accuracy_drop", 0.5, prune=False, text=text), "int8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixed", "give one of bits=N"),
        ("mixed,bits=4,drop=1", "give one of bits=N"),
        ("mixed,bits=9", "expected 1 to 8"),
        ("mixed,bits=few", "expected 1 to 8"),
        ("mixed,drop=-1", "--quantize 'mixed,drop=-1': drop: '-1' is out of range; expected points"),
        ("mixed,drop=nan", "expected points from 0 to 100"),
        ("mixed,bits=4,bits=5", "given twice"),
        ("mixed,group=32", "option 'group' is unknown"),
    ],
)
def test_errors_of_mixed(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_mixed(text)
