"""One runtime in a process of its own: JSON lines in on stdin, JSON lines out on stdout.

    {"do": "load", "runtime", "file", "threads", "isa", "tuning", "inputs": "x.npz"}  -> {"ok": true}
    {"do": "outputs", "to": "y.npz"}  -> {"ok": true}    arrays "0", "1", ...
    {"do": "time", "seconds": 0.2, "runs": 3}                               -> {"times": [seconds, ...]}

A request that fails is answered with {"error": "..."}; end of input ends the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

WARM_UP_RUNS = 2


def main() -> None:
    """Serves requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it closes our stdin
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    state: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = _REQUESTS[request["do"]](state, request)
        except Exception as error:
            reply = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        try:
            _write(replies, (json.dumps(reply) + "\n").encode())
        except BrokenPipeError:  # the parent gave up
            return


def _write(descriptor: int, data: bytes) -> None:
    """Without a buffer, which would be flushed once more at exit, into a pipe that may be gone."""
    while data:
        data = data[os.write(descriptor, data) :]


def _load(state: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from pyruntime.bench import runtimes

    with np.load(request["inputs"], allow_pickle=False) as archive:
        state["feed"] = {name: archive[name] for name in archive.files}
    shapes = {name: list(array.shape) for name, array in state["feed"].items()}
    state["run"] = runtimes.load(
        request["runtime"], request["file"], request["threads"], request["isa"], shapes, request["tuning"]
    )
    return {"ok": True}


def _outputs(state: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    outputs = state["run"](state["feed"])
    np.savez(request["to"], **{str(i): output for i, output in enumerate(outputs)})
    return {"ok": True}


def _time(state: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    run, feed, clock = state["run"], state["feed"], time.perf_counter
    for _ in range(WARM_UP_RUNS):
        run(feed)
    times: list[float] = []
    end = clock() + request["seconds"]
    while len(times) < request["runs"] or clock() < end:
        start = clock()
        run(feed)
        times.append(clock() - start)
    return {"times": times}


_REQUESTS = {"load": _load, "outputs": _outputs, "time": _time}

if __name__ == "__main__":
    main()
