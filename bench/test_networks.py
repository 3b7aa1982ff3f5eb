"""pytest-benchmark suite of the networks of the race, ours alone: `pytest bench/test_networks.py`.

Takes what `python -m bench.race --rounds 0` has built in its cache, and skips what is not there. `-k`
chooses, as in `-k "mobilenet and 2-threads"`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last: the installed pyruntime goes before the sources

import pyruntime as prt
from bench.race import prepare
from bench.race.__main__ import default_cache
from bench.race.networks import NETWORKS, Network


@pytest.mark.parametrize("threads", [1, 2], ids=["1-thread", "2-threads"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_network(network: Network, threads: int, benchmark: Any) -> None:
    path = prepare.cached(network, default_cache())
    if path is None:
        pytest.skip(f"build it first: python -m bench.race --rounds 0 --network {network.name}")
    session = prt.InferenceSession(path, prt.SessionOptions(num_threads=threads))
    feed = prepare.feed(network, default_cache(), 1)
    benchmark(session.run, None, feed)
