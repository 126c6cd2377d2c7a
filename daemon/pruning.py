"""Has closed runs go when they are not to be kept any longer: starts the pruner, and deletes what it has archived.

See `pruner`, which runs beside the daemon. What it may delete is decided here, when it asks: only a closed run without
open tasks that has just as many events as were archived. While the clock is known to have jumped nothing is deleted for
its age.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from taskmaster.bus.errors import CallerError
from taskmaster.daemon.alarms import Condition
from taskmaster.daemon.auditing import by_daemon
from taskmaster.daemon.broker import Broker
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.pruner import Errand, Wish
from taskmaster.drivers.host import start

__all__ = ["Pruning"]

log = logging.getLogger("taskmaster.daemon")

#: It is looked for the first time so many seconds after the start, if not earlier.
_FIRST_SECONDS = 60.0
#: What a pruner may take to go when the daemon does.
_END_SECONDS = 2.0
_READ_BYTES = 65536


class Pruning:
    """The retention of one daemon: a keeper of its broker."""

    def __init__(self, broker: Broker, errand: Errand, trusts_clock: Callable[[], bool]) -> None:
        self._broker = broker
        self._errand = errand
        self._trusts_clock = trusts_clock
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = self._output = -1
        self._heard = b""
        self._answers: list[bytes] = []
        self._next = time.monotonic() + min(errand.rules.every, _FIRST_SECONDS)
        #: why runs that are due stay; empty if they do not
        self.trouble = ""

    def conditions(self, now: float, wall: float) -> Iterator[Condition]:
        """For the book of alarms."""
        if self.trouble:
            text = f"closed runs that are due to go are kept, since they cannot be archived: {self.trouble}"
            yield Condition("retention", "error", "retention", text)

    def due(self) -> float:
        """When it wants to look again."""
        return self._next if self._process is None else math.inf

    def look(self, now: float, ready: Mapping[int, int], out: Effects) -> None:
        """Start a pruner; hear what it wants, and that it has ended."""
        if self._process is None:
            if now >= self._next and self._broker.stop_at is None:
                self._next = now + self._errand.rules.every
                if self._trusts_clock():
                    self._start()
            return
        if self._output in ready:
            self._hear(out)
        if self._pidfd in ready:
            self._on_end(self._process)

    def committed(self) -> None:
        """What it asked for is on disk: it is told."""
        if self._answers and self._process is not None and self._process.stdin is not None:
            try:
                os.write(self._process.stdin.fileno(), b"".join(self._answers))
            except OSError:
                log.debug("the pruner has gone before it was answered")
        self._answers.clear()

    def close(self) -> None:
        """End the pruner with the daemon; what it has archived and not asked for is archived again."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._forget(process)

    def _start(self) -> None:
        try:
            self._process = process = start(
                "taskmaster.daemon.pruner", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            self.trouble = f"no process can be started for it: {error}"
            return
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(msgspec.json.encode(self._errand) + b"\n")
        process.stdin.flush()
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        self._pidfd, self._output, self._heard = os.pidfd_open(process.pid), process.stdout.fileno(), b""
        for descriptor in (self._pidfd, self._output):
            self._broker.watch(descriptor)

    def _hear(self, out: Effects) -> None:
        try:
            part = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return
        if not part:  # it has closed it, and is about to end
            self._broker.unwatch(self._output)
            self._output = -1
            return
        *lines, self._heard = (self._heard + part).split(b"\n")
        for line in lines:
            self._answers.append(self._carry_out(msgspec.json.decode(line, type=Wish), out) + b"\n")

    def _carry_out(self, wish: Wish, out: Effects) -> bytes:
        try:
            run = self._broker.core.runs.require(wish.run)
            self._broker.core.prune(wish.run, wish.events, out)
        except CallerError as error:
            return " ".join(str(error).split()).encode()
        rules = self._errand.rules
        about = {"run": run.id, "name": run.name, "events": wish.events, "archived": rules.archive is not None}
        by_daemon("prune", out, run.master, about)
        done = "is archived and deleted" if self._errand.rules.archive is not None else "is deleted"
        out.remarks.append((False, f"{wish.text} {done}, as [retention] says"))
        return b""

    def _on_end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        status = process.wait()
        said = ""
        try:
            said = (os.read(process.stderr.fileno(), _READ_BYTES) or b"").decode(errors="replace").strip()
        except BlockingIOError:
            said = ""
        if status:
            self.trouble = said.splitlines()[-1] if said else f"the pruner ended with status {status}"
        else:
            self.trouble = ""
        self._forget(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        for descriptor in (self._pidfd, self._output):
            if descriptor >= 0:
                self._broker.unwatch(descriptor)
        os.close(self._pidfd)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        self._process, self._pidfd, self._output = None, -1, -1
        self._answers.clear()
