"""Workers of heads that kill themselves at a moment of their lives: the N-th time they come to ``MORTAL="POINT:N"``.

Python imports a module of this name at its start. Whoever wants mortal workers puts this folder into their PYTHONPATH,
by the Master's ``env``: nothing of the worker knows of it. Each death leaves a byte in the file ``MORTAL_RECORD``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

#: What is sent leaves in another thread: long enough for it, before the end.
_LEAVES_SECONDS = 0.01


class _Fate:
    def __init__(self, point: str, times: int) -> None:
        self.point = point
        self._left = times

    def reach(self, point: str, delay: float = 0.0) -> None:
        if point != self.point:
            return
        self._left -= 1
        if not self._left:
            time.sleep(delay)
            with open(os.environ["MORTAL_RECORD"], "ab", buffering=0) as record:
                record.write(b"+")
            os.kill(os.getpid(), signal.SIGKILL)


def _before(kind: type, name: str, do: Callable[..., None]) -> None:
    original = getattr(kind, name)

    def both(self: Any, *arguments: Any, **keywords: Any) -> Any:
        do(self, *arguments, **keywords)
        return original(self, *arguments, **keywords)

    setattr(kind, name, both)


def _after(kind: type, name: str, do: Callable[..., None]) -> None:
    original = getattr(kind, name)

    def both(self: Any, *arguments: Any, **keywords: Any) -> Any:
        result = original(self, *arguments, **keywords)
        do(self, *arguments, **keywords)
        return result

    setattr(kind, name, both)


def _put_in_its_way(fate: _Fate) -> None:
    from taskmaster.drivers.instruments.attendant import Attendant
    from taskmaster.drivers.instruments.commandhead import CommandHead
    from taskmaster.drivers.instruments.head import Head
    from taskmaster.drivers.instruments.streams import SocketStream
    from taskmaster.drivers.protocol import WorkerProtocol

    def sent(stream: SocketStream, data: bytes, seconds: float) -> None:
        if data.startswith(b"POS"):
            fate.reach("when the first bytes are out")

    def reported(protocol: WorkerProtocol, *arguments: Any, **keywords: Any) -> None:
        fate.reach("before the outcome leaves")

    def settled(protocol: WorkerProtocol, leases: Any) -> None:
        if leases:
            fate.reach("when it is settled")

    _before(Attendant, "give", lambda *_: fate.reach("when the task arrives"))
    _after(Head, "begin_task", lambda *_: fate.reach("when it is noted as begun"))
    _after(Attendant, "on_acting", lambda *_: fate.reach("before the first byte"))
    _after(SocketStream, "send", sent)
    _before(CommandHead, "_await", lambda *_: fate.reach("while it waits"))
    _after(CommandHead, "_read", lambda *_: fate.reach("when the answer is there"))
    _before(WorkerProtocol, "report", reported)
    _after(WorkerProtocol, "_on_settled", settled)
    if fate.point == "when the outcome is out":
        from taskmaster.drivers.worker import Worker  # that of heads is another one, in the main module

        _after(Worker, "flush", lambda worker: _left(worker, fate))


def _left(worker: Any, fate: _Fate) -> None:
    protocol = worker.protocol
    if protocol._unsettled and not protocol.outbox:
        fate.reach("when the outcome is out", _LEAVES_SECONDS)


if "MORTAL" in os.environ and "taskmaster.drivers.instruments.worker" in sys.orig_argv:
    _point, _, _times = os.environ["MORTAL"].rpartition(":")
    _put_in_its_way(_Fate(_point, int(_times)))
