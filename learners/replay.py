"""Replay: a recorded run played to a learner again, asks and tells in exactly the order in which they were.

    from taskmaster.learners.replay import replay

    replayed = replay(learner, lab["svm"].watch("last night"), until=120)
    print(replayed.divergence or "the learner asks what it asked then")

The learner is asked where the record says that one was asked, for as many points, and what it gives is compared, to
the bit, with what was put. As long as that is the same, it is told of its own points; from the first divergence on it
is not asked any more, and told everything that was measured. Nothing is evaluated: so a run of a night takes as long as
its learner thinks, and a mended learner can be tried on what was measured with the broken one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from taskmaster.bus.errors import RunClosed
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import BY_HAND
from taskmaster.learners.arguments import whole
from taskmaster.learners.history import AskedBlock, Recording, Replayable
from taskmaster.learners.looping.telling import Teller, fails_nan
from taskmaster.learners.playback import Asked, Divergence, Playback, Segment
from taskmaster.learners.protocol import Learner, prepare, require
from taskmaster.learners.results import Result
from taskmaster.learners.wholes import whole_recording

__all__ = ["AskStep", "Divergence", "HistoryMaster", "HistoryRun", "Replayed", "Step", "TellStep", "replay"]


class AskStep(NamedTuple):
    """The learner was asked."""

    #: events that it had been told before: what ``until`` counts
    told: int
    #: for how many points, and those that it gave
    asked: int
    points: Sequence[Any]
    #: what was put because of it then, the first eight at most
    recorded: Sequence[Any]
    divergence: Divergence | None


class TellStep(NamedTuple):
    """A task had ended, and the learner was told; or not, because it was put again."""

    told: int
    result: Result
    #: ``told`` its output, told that it ``failed`` (or was cancelled), put ``again``
    how: str


Step: TypeAlias = AskStep | TellStep


@dataclass(frozen=True)
class Replayed:
    """What came of a replay."""

    #: how far it went: events below this were told, and what was asked in between was asked
    until: int
    #: how often the learner was asked
    asks: int
    #: outputs that it was told, points that ended without, and those of these that were put again
    told: int
    failed: int
    again: int
    #: where the learner first gave something else than is recorded, if it did
    divergence: Divergence | None
    #: points that it has given and of which it has not been told
    pending: tuple[Any, ...]

    def __bool__(self) -> bool:
        """Whether it was the same from beginning to end."""
        return self.divergence is None


def replay(
    learner: Learner,
    run: Replayable | Sequence[Replayable],
    *,
    until: int | None = None,
    hook: Callable[[Step], object] | None = None,
) -> Replayed:
    """Play what is recorded of ``run`` to ``learner``, a new one: made as that of the run was, or to be tried instead.

    ``until`` ends it after so many events (and what was asked between these), by default it goes to the end.
    ``hook(step)`` is called after each ask and after each result; what it raises comes through. So does what the
    learner raises, with a note that says where.

    Of a run over several Masters ``run`` is any of its legs, ``lab["probe"].watch(name)``, where one daemon has all of
    them; else all legs in a list, in any order. Their events are counted together. Raises CallerError where legs are
    not to be found, or are not of one run.
    """
    require(learner)
    history = whole_recording(run)
    end = history.next_seq if until is None else min(whole(until, "until", 0, 2**53), history.next_seq)
    return _Player(learner, history, hook).play(end)


class _Player:
    """One replay."""

    def __init__(self, learner: Learner, history: Recording, hook: Callable[[Step], object] | None) -> None:
        self._learner = learner
        self._history = history
        self._hook = hook
        self._reading = history.reading()
        self._run = HistoryRun(HistoryMaster(history))
        self._fails_nan = fails_nan(self._run)
        self._teller = Teller(learner, self._run, fails_nan=self._fails_nan)
        self._again = 0
        schema = Schema(history.parameters, history.master)
        prepare(learner, history.parameters, history.outputs, history.seed)
        self._playback = Playback(learner, self._reading.asks(), schema, None if hook is None else self._on_ask)

    def play(self, end: int) -> Replayed:
        playback, on_result = self._playback, self._on_result
        for result in self._reading.results(end):
            seq, index = result.seq, result.index
            if playback.has_due(seq, index):
                self._ask_until(seq, index)
            on_result(result, seq, index)
        self._ask_until(end if end < self._history.next_seq else math.inf)
        pending = [asked.point for _, asked in sorted(playback.asked.items())]
        pending += [asked.point for asked in (*playback.lost, *playback.ready)]
        told, failed = self._teller.told, self._teller.failed
        return Replayed(end, playback.asks, told, failed, self._again, playback.divergence, tuple(pending))

    def _ask_until(self, seq: float, index: int = -1) -> None:
        try:
            self._playback.catch_up(seq, index)
        except Exception as error:
            self._teller.annotate(error, "asked what it was asked before", self._run.told + 1)
            raise

    def _on_result(self, result: Result, seq: int, index: int) -> None:
        playback, teller = self._playback, self._teller
        asked = playback.asked.pop(index, None)
        error = teller.error(result) if self._fails_nan else result.error
        how = "told"
        if error is not None and playback.is_put_again(asked or Asked(result.input, seq), seq):
            self._again += 1
            how = "again"
        elif asked is None:
            how = "told" if error is None else "failed"
            teller.tell_unasked(result, error)
        elif error is None:
            teller.tell(asked.point, result)
        else:
            how = "failed"
            teller.fail(asked.point, error, result)
        playback.on_told(result)
        self._run.told = seq
        if self._hook is not None:
            self._hook(TellStep(seq + 1, result, how))

    def _on_ask(self, segment: Segment, points: Sequence[Any]) -> None:
        if self._hook is not None:
            told = self._run.told + 1
            self._hook(AskStep(told, segment.ask.asked, points, segment.points, self._playback.divergence))


# -- a Loop over a recorded run ---------------------------------------------------------------------------------------


class HistoryMaster:
    """A recorded run in the place of a Master: what it was asked, it answers as it did then, and nothing else.

    A Loop over it goes through the record with everything a Loop has (goals, hooks, progress), and ends with RunClosed
    where that ends, unless its goal was reached before. :func:`replay` is the short way, and says more.
    """

    def __init__(self, run: Replayable | Sequence[Replayable]) -> None:
        #: the record
        self.history: Recording = whole_recording(run)

    def __repr__(self) -> str:
        return f"<HistoryMaster of {self.history!r}>"

    @property
    def name(self) -> str:
        """The Master's."""
        return self.history.master

    @property
    def parameters(self) -> Sequence[Field]:
        """The Master's."""
        return self.history.parameters

    @property
    def outputs(self) -> Sequence[Field]:
        """The Master's."""
        return self.history.outputs

    def wait_for_slots(self, timeout: float = 0.0) -> int:
        """How many tasks it evaluates at a time: nothing is evaluated here, so one."""
        return 1

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> HistoryRun:
        """The run, from its beginning; it has its own name, seed and metadata."""
        return HistoryRun(self)

    def play(
        self, learner: Learner, *, until: int | None = None, hook: Callable[[Step], object] | None = None
    ) -> Replayed:
        """See :func:`replay`."""
        return replay(learner, self.history, until=until, hook=hook)


class HistoryRun:
    """A recorded run that is gone through once, as :class:`~taskmaster.learners.target.TargetRun` has it."""

    def __init__(self, master: HistoryMaster) -> None:
        self.master = master
        history = master.history
        self.name, self.seed, self.metadata = history.name, history.seed, history.metadata
        #: tasks that are recorded: the next one is never put
        self.next_index = history.next_index
        #: the last event that was taken
        self.told = -1
        #: nothing can be put
        self.tasks = _NoTasks(self)
        self.results = _RecordedResults(self, history.results())
        self._now = history.created
        self._taken = 0

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by; None where it does not."""
        return getattr(self.master.history, "command_name", None)

    @property
    def expression(self) -> str:
        """What a program has it by."""
        return "run"

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and where the learner was asked for them."""
        return self.master.history.asks()

    def time(self) -> float:
        """The same as :meth:`clock`."""
        return self._now

    def clock(self) -> float:
        """When the last result that was taken came to be, in seconds since 1970."""
        return self._now

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not been taken; some may have none."""
        return self.next_index - self._taken

    def take(self, result: Result) -> Result:
        """One more is known."""
        self.told, self._now = result.seq, max(self._now, result.finished)
        self._taken += 1
        return result

    def flush(self, timeout: float | None = None) -> None:
        """It is all recorded."""

    def detach(self) -> None:
        """Nothing changes."""

    def close(self) -> None:
        """Nothing changes."""


class _RecordedResults:
    """The results of a recorded run, in their order."""

    def __init__(self, run: HistoryRun, results: Iterator[Result]) -> None:
        self._run = run
        self._results = results

    def get(self, timeout: float | None = None) -> Result:
        """The next one. Raises RunClosed behind the last."""
        for result in self._results:
            return self._run.take(result)
        raise _ended(self._run)

    def rouse(self, on: bool = True) -> None:
        """Nobody ever waits."""

    def __iter__(self) -> Iterator[Result]:
        return map(self._run.take, self._results)


class _NoTasks:
    """Takes nothing."""

    def __init__(self, run: HistoryRun) -> None:
        self._run = run

    def put(self, point: Any) -> int:
        """Raises RunClosed."""
        raise _ended(self._run)

    def put_many(self, points: Sequence[Any]) -> Sequence[int]:
        """Raises RunClosed."""
        raise _ended(self._run)

    def gather(self, on: bool = True) -> None:
        """Nothing is put."""

    def send(self, *, listen: bool = True) -> None:
        """Nothing is put."""

    def new_ask(self, after: int | None = None, asked: int = BY_HAND) -> None:
        """Nothing is recorded."""


def _ended(run: HistoryRun) -> RunClosed:
    return RunClosed(
        f"the record of run {run.master.history.title!r} ends here, with {run.next_index} tasks and event {run.told}; "
        "to go on from it, open the run itself, or fork it"
    )
