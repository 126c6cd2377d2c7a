"""A client in another machine, under load there: ``python -m helpers.inside MASTER RUN``, told what to do line by line.

``results N`` awaits so many, ``pause`` says how long it ever waited for one since it was last asked, in seconds,
``finish STATE`` ends the load and has everything checked. Each line is answered by one.
"""

from __future__ import annotations

import sys
import threading
import time
import zlib
from pathlib import Path
from typing import TextIO

from helpers.load import Load
from taskmaster.bus.places import default_address
from taskmaster.learners.client import connect

__all__ = ["main"]

#: How often it is looked whether results have come.
_LOOK_SECONDS = 0.005


class Pauses:
    """Notes the longest time in which a load got no result."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        seen, since = 0, time.monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if len(self._load.results) != seen:
                seen, since = len(self._load.results), now
            self._longest = max(self._longest, now - since)

    def longest(self) -> float:
        """Since this was last asked."""
        longest, self._longest = self._longest, 0.0
        return longest

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()
        self._thread.join()


def main(orders: TextIO, answers: TextIO) -> None:
    """Do as one is told until there is nothing more to be told."""
    master, name = sys.argv[1:3]
    with connect(default_address(), patience=None) as lab:
        load = Load(lab[master].open(name), seed=zlib.crc32(name.encode())).start()
        pauses = Pauses(load)
        for order in orders:
            word, *rest = order.split()
            answer = "done"
            if word == "results":
                load.await_results(int(rest[0]))
            elif word == "pause":
                answer = f"{pauses.longest():.3f}"
            elif word == "finish":
                pauses.end()
                load.finish()
                load.check(lab, Path(rest[0]))
                answer = str(len(load.results))
            print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
