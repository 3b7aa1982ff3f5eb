"""One fresh process of `bench.startup`: imports a runtime, makes a session, runs it, prints what that took.

    python -m bench.startup.child RUNTIME MODEL FEED.npz THREADS

JSON: milliseconds of `import`, `session` and `first_run`; megabytes of resident memory at its `peak`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def peak_megabytes() -> float:
    """Largest resident size of this program; not of the one that started it, which getrusage would count."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def pyruntime_session(path: str, threads: int) -> Any:
    import pyruntime

    return pyruntime.InferenceSession(path, pyruntime.SessionOptions(num_threads=threads))


def onnxruntime_session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def main(runtime: str, model: str, feed_path: str, threads: str) -> None:
    found = {}
    start = time.perf_counter()
    if runtime == "pyruntime":
        import pyruntime

        found["import"] = milliseconds(start)
        _ = pyruntime.InferenceSession  # loads NumPy and the core
        make = pyruntime_session
    else:
        import onnxruntime  # noqa: F401

        found["import"] = milliseconds(start)
        make = onnxruntime_session
    start = time.perf_counter()
    session = make(model, int(threads))
    found["session"] = milliseconds(start)
    import numpy as np

    with np.load(feed_path) as archive:
        feed = {name: archive[name] for name in archive.files}
    start = time.perf_counter()
    session.run(None, feed)
    found["first_run"] = milliseconds(start)
    for _ in range(3):
        session.run(None, feed)
    found["peak"] = peak_megabytes()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
