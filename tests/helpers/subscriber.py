"""A client in its own process that follows a run to its end, and then says what it has seen.

    python -m helpers.subscriber ADDRESS MASTER RUN

Prints ``following`` once a first result has arrived, and at the end, in JSON: how many, and a digest of them in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from helpers.waiting import PATIENCE
from taskmaster.learners.client import connect
from taskmaster.learners.results import Result

__all__ = ["Subscriber", "summary"]


def summary(results: Iterable[Result]) -> dict[str, object]:
    """What of results can be compared over processes: how many, and a digest of number, task and content in order."""
    digest = hashlib.sha256()
    n = 0
    for result in results:
        n += 1
        digest.update(repr((result.seq, result.index, result.input, result.output)).encode())
    return {"n": n, "digest": digest.hexdigest()}


class Subscriber:
    """Such a process."""

    def __init__(self, address: str, master: str, run: str) -> None:
        tests = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, (str(tests), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.subscriber", address, master, run],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_following(self) -> None:
        """Wait until it has had a result."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "following\n"

    def summary(self) -> dict[str, object]:
        """Wait for its end; returns what it has seen."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0
        return dict(json.loads(output))

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.communicate()


def main() -> None:
    """Follow."""
    address, master, name = sys.argv[1:]
    with connect(address) as lab:
        run = lab[master].watch(name)
        results = run.results.follow()
        first = next(results)
        print("following", flush=True)

        def everything() -> Iterable[Result]:
            yield first
            yield from results

        print(json.dumps(summary(everything())))


if __name__ == "__main__":
    main()
