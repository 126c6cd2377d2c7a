"""Clients and learners: connect to a daemon, drive a Master with a Loop, or embed one with WorkMaster."""

from taskmaster.bus.errors import (
    DaemonUnreachable,
    Fenced,
    Full,
    InvalidTask,
    RunClosed,
    TaskCancelled,
    TaskFailed,
    TaskMasterError,
    UnknownMaster,
    UnknownRun,
)
from taskmaster.learners.client import Lab, Master, Run, connect
from taskmaster.learners.goals import loss, npoints, seconds
from taskmaster.learners.loop import LearnerStuck, Loop, TooManyFailures
from taskmaster.learners.results import Result
from taskmaster.learners.workmaster import WorkMaster

__all__ = [
    "DaemonUnreachable",
    "Fenced",
    "Full",
    "InvalidTask",
    "Lab",
    "LearnerStuck",
    "Loop",
    "Master",
    "Result",
    "Run",
    "RunClosed",
    "TaskCancelled",
    "TaskFailed",
    "TaskMasterError",
    "TooManyFailures",
    "UnknownMaster",
    "UnknownRun",
    "WorkMaster",
    "connect",
    "loss",
    "npoints",
    "seconds",
]
