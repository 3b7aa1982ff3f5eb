"""Every task of a job runs exactly once, whoever comes late, and no two at once under one thread index."""

from __future__ import annotations

import numpy as np
import pytest

from pyruntime import _core

FEW_AND_MANY = [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64]
RESTS = [-20, -60, -300]  # microseconds; workers sleep after about 50


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_every_task_runs_once(num_threads: int, callers: int) -> None:
    tasks = np.random.default_rng(num_threads).choice(FEW_AND_MANY, 2000).tolist()
    assert _core.testing.count_task_faults(num_threads, tasks, callers) == 0


def test_workers_that_sleep_miss_nothing() -> None:
    tasks = np.random.default_rng(0).choice(FEW_AND_MANY + RESTS, 2000).tolist()
    assert _core.testing.count_task_faults(2, tasks, 1) == 0
