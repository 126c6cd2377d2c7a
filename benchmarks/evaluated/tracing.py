"""Notes when a process of ours receives, sends and commits: the marks from which `benchmarks.timeline` reads its way.

Installed in the client by the suite, in a worker by its Master's ``setup``, in the daemon by starting it through this
file. What it wraps are the doors through which every message goes; a mark costs about a microsecond.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from taskmaster.bus import sockets
from taskmaster.daemon.journal import Journal

#: Folder for the marks of each process; set by the suite.
TRACE_FOLDER = "TASKMASTER_BENCHMARK_TRACE"

#: (nanoseconds on the clock that all processes of a machine share, what happened)
marks: deque[tuple[int, str]] = deque(maxlen=100_000)


def start() -> None:
    """Note from here on; write it down when the process ends, under its role's name."""
    install()
    role = "daemon" if __name__ == "__main__" else "worker"
    path = Path(os.environ[TRACE_FOLDER]) / f"{role}-{os.getpid()}"
    atexit.register(lambda: path.write_text(json.dumps(list(marks)), encoding="utf-8"))


def install() -> None:
    """Put the marks in, once."""
    if sockets.send.__module__ == __name__:
        return
    clock = time.monotonic_ns
    receive, send, commit = sockets.receive, sockets.send, Journal.commit

    def marked_receive(*arguments: Any, **more: Any) -> Any:
        began = clock()
        frames = receive(*arguments, **more)
        if frames is not None:
            marks.append((began, "arrived"))
        return frames

    def marked_send(*arguments: Any) -> Any:
        marks.append((clock(), "send"))
        return send(*arguments)

    def marked_commit(*arguments: Any) -> Any:
        marks.append((clock(), "commit"))
        done = commit(*arguments)
        marks.append((clock(), "committed"))
        return done

    sockets.receive, sockets.send, Journal.commit = marked_receive, marked_send, marked_commit  # type: ignore[method-assign]


if __name__ == "__main__":
    from taskmaster.config.load import load
    from taskmaster.daemon.plan import plan
    from taskmaster.daemon.service import serve

    start()
    serve(plan(load(sys.argv[1])))
