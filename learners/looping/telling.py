"""Asking and telling one learner, whatever it makes of that: counted, and with the place where it raised."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, cast

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed
from taskmaster.bus.fields import shown
from taskmaster.learners.looping.errors import step_note
from taskmaster.learners.looping.points import has_nan, key_of, was_changed
from taskmaster.learners.playback import Asked, tell
from taskmaster.learners.protocol import Endable, Failable, Learner, ask, describe
from taskmaster.learners.results import Result
from taskmaster.learners.target import TargetRun

__all__ = ["Flying", "Teller", "fails_nan", "require_nan"]

log = logging.getLogger("taskmaster")


class Teller:
    """Asks and tells one learner about one run, and counts; the counts are those of `LoopStatistics`."""

    def __init__(self, learner: Learner, run: TargetRun, *, fails_nan: bool) -> None:
        self._learner = learner
        self._run = run
        self._fails_nan = fails_nan
        # Looked up once: to ask whether a protocol is kept takes longer than to ask some learners for a point.
        self._ends, self._failable = isinstance(learner, Endable), isinstance(learner, Failable)
        #: the learner is being asked or told
        self.is_thinking = False
        self.told = self.failed = self.dropped = self.nans = self.unasked = 0
        self._refused = self._unheard = 0

    def is_done(self) -> bool:
        """Whether the learner says that it is; one that cannot say so never is."""
        if not self._ends:
            return False
        try:
            return cast("Endable", self._learner).done()
        except Exception as error:
            self.annotate(error, "asked whether it is done", self._run.told + 1)
            raise

    def require_unchanged(self, asked: Asked, result: Result) -> None:
        """Raise CallerError where a learner's point is not what was put any more.

        A learner that gives the same object again, with other values in it, would be told of these what was measured
        elsewhere.
        """
        if asked.key is None or (key := key_of(asked.point)) == asked.key:
            return
        if (key,) == (asked.key,):  # in tuples NaN equals itself
            return
        if result.is_edited or not was_changed(asked.point, result.input):
            return
        error = CallerError(
            f"the learner ({describe(self._learner)}) gave {shown(result.input)}, and has changed it since, to "
            f"{shown(asked.point)}; a point has to stay as it was until the learner has been told of it: give a new "
            "one each time, like dict(point) or array.copy()"
        )
        self.annotate(error, "about to be told", result.seq, result)
        raise error

    def ask(self, n: int) -> list[Any]:
        """At most ``n`` points. Raises CallerError if it gives more, and what the learner raises."""
        self.is_thinking = True
        try:
            return ask(self._learner, n)
        except Exception as error:
            self.annotate(error, f"asked for {n} points", self._run.told + 1)
            raise
        finally:
            self.is_thinking = False

    def error(self, result: Result) -> TaskFailed | TaskCancelled | None:
        """Why a result is no output to tell; None if it is one."""
        error = result.error
        if error is None and has_nan(result.output):
            self.nans += 1
            if self._fails_nan:
                return TaskFailed(f"its output is {result.output!r}", "NaN")
        return error

    def tell(self, point: Any, result: Result) -> None:
        """Tell what was measured; where somebody has edited its ``point``, that this one was not."""
        self.is_thinking = True
        try:
            if result.is_edited:
                tell(self._learner, point, result)
            else:
                self._learner.tell(point, result.output)
        except Exception as error:
            self.annotate(error, "told the output", result.seq, result)
            raise
        finally:
            self.is_thinking = False
        self.told += 1

    def fail(self, point: Any, error: TaskFailed | TaskCancelled, result: Result) -> None:
        """Tell that a point has no output, if the learner wants to know."""
        if self._failable:
            self.is_thinking = True
            try:
                cast("Failable", self._learner).fail(point, error)
            except Exception as raised:
                self.annotate(raised, "told of the failure", result.seq, result)
                raise
            finally:
                self.is_thinking = False
        else:
            self.dropped += 1
            self._unheard += 1
            if self._unheard == 1:
                log.warning(
                    "run %r: the learner (%s) has no fail(), so it is not told of points that fail; the first: %r, %s",
                    self._run.name,
                    describe(self._learner),
                    point,
                    error.args[0],
                )
        self.failed += 1

    def tell_unasked(self, result: Result, error: TaskFailed | TaskCancelled | None) -> None:
        """Tell what it has not asked for, if it takes that: it was measured all the same."""
        self.unasked += 1
        try:
            if error is None:
                self.tell(result.input, result)
            else:
                self.fail(result.input, error, result)
        except Exception as refused:  # noqa: BLE001 - a learner's, which may take only what it has asked for itself
            self.dropped += 1
            self._refused += 1
            if self._refused == 1:
                log.warning(
                    "run %r: task %d, %s, was not asked for by this learner, which does not take it: %s; of further "
                    "ones nothing is said, they are counted as dropped",
                    self._run.name,
                    result.index,
                    shown(result.input),
                    refused,
                )

    def annotate(self, error: Exception, what: str, step: int, result: Result | None = None) -> None:
        """Note with a learner's error where that was, and how to get there again."""
        of = (None, None) if result is None else (result.index, result.input)
        error.add_note(step_note(what, self._run, step, *of))


class Flying:
    """Which points are in flight. Put twice one is evaluated twice, which few learners mean."""

    def __init__(self) -> None:
        #: points that were put while the same point was in flight
        self.repeated = 0
        self._counts: dict[Hashable, int] = {}

    def add(self, key: Hashable | None) -> bool:
        """A point of this `key_of` is in flight from now on; whether it is the first that was already."""
        if key is None:
            return False
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count == 1:
            return False
        self.repeated += 1
        return self.repeated == 1

    def remove(self, key: Hashable | None) -> None:
        """One of this key has ended."""
        if key is not None and self._counts.get(key, 0) > 1:
            self._counts[key] -= 1
        elif key is not None:
            self._counts.pop(key, None)


def require_nan(nan: str | None) -> None:
    """Raise CallerError for what is no answer to the question what becomes of NaN."""
    if nan not in (None, "tell", "fail"):
        raise CallerError(f"nan says what becomes of an output with a NaN, 'tell' or 'fail', not {nan!r}")


def fails_nan(run: TargetRun, wanted: str | None = None) -> bool:
    """Whether an output with a NaN counts as a failure in this run; ``wanted`` is what a Loop was told of that.

    It is recorded with the run, for whoever goes on with it or replays it has to know. Raises CallerError where another
    thing is wanted than is recorded.
    """
    recorded = run.metadata.get("nan", "tell")
    if wanted in (None, recorded):
        return recorded == "fail"
    if wanted == "fail":
        remedy = "take a new run: give the loop its Master and a name, or open it with metadata={'nan': 'fail'}"
    else:
        remedy = "leave nan out, or take a new run"
    taken = "a failure" if recorded == "fail" else "an output"
    raise CallerError(f"run {run.name!r} has taken NaN for {taken} from its beginning; {remedy}")
