"""Who attends to the instruments of a demonstration, as a person in the laboratory would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from taskmaster.bus.errors import DaemonUnreachable, TaskMasterError
from taskmaster.bus.status import HeadInfo
from taskmaster.learners.client import Lab

__all__ = ["Attention"]

#: Seconds between two looks.
_EVERY = 0.2


class Attention:
    """Looks at the heads of a Master again and again, in a thread of its own, and calls ``turn`` with what it sees.

    ``turn`` may ask the daemon, which may be killed meanwhile: then the next turn comes when it is back. What else it
    raises is kept as :attr:`error`, and ``on_failure`` is called.
    """

    def __init__(
        self, lab: Lab, master: str, turn: Callable[[Sequence[HeadInfo]], None], on_failure: Callable[[], None]
    ) -> None:
        self.error: TaskMasterError | None = None
        self._lab = lab
        self._master = master
        self._turn = turn
        self._on_failure = on_failure
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._attend, name="demo-attention", daemon=True)

    def __enter__(self) -> Attention:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()

    def _attend(self) -> None:
        while not self._leaving.wait(_EVERY):
            try:
                self._turn(self._lab.heads(self._master))
            except DaemonUnreachable:
                continue
            except TaskMasterError as error:
                if not self._leaving.is_set():
                    self.error = error
                    self._on_failure()
                return
