"""What a driver is: the kind of evaluator behind a Master."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from taskmaster.bus.fields import Schema

if TYPE_CHECKING:
    from taskmaster.drivers.evaluation import Report
    from taskmaster.drivers.gpu.engine import Engine
    from taskmaster.drivers.progress import ProgressWriter

__all__ = ["DeviceBroken", "Driver", "DriverContext"]


class DeviceBroken(Exception):
    """What a driver evaluates on is of no use to its process any more: another has to go on with its tasks."""


@dataclass(frozen=True)
class DriverContext:
    """What a worker knows when it sets up its driver."""

    #: the Master it evaluates for
    master: str
    #: the Master's own keys in the configuration, validated and with defaults filled in
    options: Mapping[str, Any]
    parameters: Schema
    outputs: Schema


class Driver(ABC):
    """Evaluates the tasks of one Master in one worker process.

    A worker makes one instance, calls :meth:`open` once, then :meth:`evaluate` for each task (from ``slots`` threads if
    that is more than one) or :meth:`evaluate_batch` for each chunk of tasks (if ``batch``), and :meth:`close` at the
    end. What `evaluate` raises fails that task; what `open` raises makes the worker unusable and is shown to people.
    """

    #: True where `evaluate_batch` takes many tasks in one call.
    batch: ClassVar[bool] = False
    #: Whether a generator that `evaluate` returns is to be driven: its yields are progress, its return is the output.
    may_yield: bool = True

    def __init__(self, context: DriverContext) -> None:
        self.context = context
        #: how many tasks this worker evaluates at a time
        self.slots = 1

    @abstractmethod
    def open(self) -> None:
        """Get ready: import, connect, initialise."""

    def evaluate(self, point: Any) -> Any:
        """One task: the output of an input, as the learner sent it or as a dict of the declared parameters.

        Returns the value of the only output, or a dict of outputs. It may be a generator function: what that yields is
        told as the task's progress, what it returns is the output.
        """
        raise NotImplementedError(f"{type(self).__name__} evaluates batches only")

    def evaluate_batch(self, columns: Any, n: int) -> Any:
        """``n`` tasks: a dict of columns ``(n, *shape)`` by parameter (or one column, where none are declared).

        Returns the column of the only output, or a dict of columns, each of length ``n``.
        """
        raise NotImplementedError(f"{type(self).__name__} evaluates one task at a time")

    def engine(
        self, report: Report, progress: ProgressWriter, wake: Callable[[], None], flush: Callable[[], None]
    ) -> Engine | None:
        """What evaluates tasks of several leases together, in place of this; None: nothing does.

        What it reports leaves with its ``flush``.
        """
        return None

    def close(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Let go of everything. Called once, also after a failure."""
