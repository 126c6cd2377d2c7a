"""Classes of instruments that `taskmaster check` is tried on: one that is right, others that are a nuisance."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from taskmaster.drivers.instruments import Head


class Heater:
    """Nothing of ours: it takes a value and gives one, and writes down when it is made to do more."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.log = open(resource, "a", buffering=1)  # noqa: SIM115 - closed with the object
        self._power = 0.0

    @property
    def power(self) -> float:
        return self._power

    @power.setter
    def power(self, value: float) -> None:
        self.log.write(f"power {value}\n")
        self._power = value

    @property
    def temperature(self) -> float:
        return 20 + 50 * self._power

    def off(self) -> None:
        self.log.write("off\n")

    def close(self) -> None:
        self.log.close()


class Looks(Head):
    """A head of ours that can be looked at."""

    def connect(self) -> None:
        pass

    def identify(self) -> str:
        return "LOOKS,1"

    def read(self) -> Any:
        return {"temperature": 21.5}


class Opens(Head):
    """One that cannot be connected to without initialising."""


class Hangs(Looks):
    """One whose library never comes back."""

    def connect(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        threading.Event().wait()


class Crashes(Looks):
    """One whose library takes the process with it."""

    def read(self) -> Any:
        os.kill(os.getpid(), signal.SIGSEGV)
