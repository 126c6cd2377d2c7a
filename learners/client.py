"""The blocking client: :func:`connect`, Masters, runs, their ``tasks`` and ``results``. Safe to use from any thread."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.keys import Credentials, credentials_for
from taskmaster.bus.places import default_address
from taskmaster.bus.status import AlarmInfo, DaemonStatus, HeadInfo, HeldTask, MasterStatus, RunInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners.arguments import check_since, duration, text
from taskmaster.learners.asker import Asker
from taskmaster.learners.auditing import AuditOfLab
from taskmaster.learners.channel import Channel
from taskmaster.learners.clientpeople import PeopleOfLab, PeopleOfMaster
from taskmaster.learners.clientseries import SeriesOfLab
from taskmaster.learners.people import login
from taskmaster.learners.resolving import Resolution, held_message
from taskmaster.learners.results import Result
from taskmaster.learners.run import Results, Run, Tasks
from taskmaster.learners.views import ANSWER_SECONDS, LabView, fork_message, run_number

log = logging.getLogger("taskmaster")

__all__ = ["Lab", "Master", "Results", "Run", "Tasks", "connect"]

#: Seconds to wait for a Master's workers to start.
SLOTS_SECONDS = 10.0
_LOOK_SECONDS = 0.02


def connect(
    address: str | None = None,
    timeout: float = ANSWER_SECONDS,
    patience: float | None = ANSWER_SECONDS,
    *,
    key: str | Path | None = None,
    daemon_key: str | None = None,
) -> Lab:
    """Connect to a daemon's control socket; by default ``$TASKMASTER``, else the local daemon's.

    Over the network a daemon is known by its public key, ``daemon_key``, by default the one that is pinned for its
    address (``taskmaster keys pin``); ``key`` is the file of one's own pair, see :mod:`taskmaster.bus.keys`.

    Raises DaemonUnreachable if none answers within ``timeout`` seconds, KeyFileError where a key is missing.
    ``patience`` is what it may take to answer later, see :class:`Lab`.
    """
    chosen = address or default_address()
    return Lab(chosen, timeout, patience, credentials_for(chosen, key, daemon_key))


class Lab(PeopleOfLab, AuditOfLab, SeriesOfLab, LabView):
    """A connection to one daemon: a mapping of names to Masters. Use it as a context manager, or close it.

    If the daemon goes away, putting and taking wait for it to come back, and then go on; nothing is lost. What asks it
    for an answer (opening a run, and so :meth:`Master.map` and a Loop when they begin; its status, switches) waits
    ``patience`` seconds and raises DaemonUnreachable then. With ``patience=None`` that waits, too.
    """

    def __init__(
        self,
        address: str,
        timeout: float = ANSWER_SECONDS,
        patience: float | None = ANSWER_SECONDS,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__(address, patience, credentials)
        #: what is to live as long as this
        self._owner: object = None
        self._channel = Channel(self._core)
        self._asker = Asker(address, self._channel)
        self._finalizer = weakref.finalize(self, Channel.retire, self._channel)
        try:
            self._describe(duration(timeout, "timeout"))
        except BaseException:
            self._finalizer()
            raise

    def _describe(self, timeout: float) -> None:
        channel = self._channel
        with channel.lock:
            request = self._core.describe(time.monotonic())
        if not channel.wait(lambda: request.answered, timeout):
            raise self._nobody()
        if request.error is not None:
            raise request.error

    @property
    def is_embedded(self) -> bool:
        """Whether its daemon is a part of this program, and ends with it."""
        return self._owner is not None

    def __getitem__(self, name: str) -> Master:
        """The Master of this name. Raises UnknownMaster."""
        return Master(self, name)

    def status(self) -> DaemonStatus:
        """Everything the daemon tells about itself."""
        reply = self.ask(m.Status(0))
        assert isinstance(reply, m.StatusReport)
        return reply.status

    def runs(self, master: str | None = None) -> tuple[RunInfo, ...]:
        """The runs of one Master, or of all."""
        runs: list[RunInfo] = []
        more = True
        while more:
            reply = self.ask(m.ListRuns(0, master, runs[-1].run if runs else 0))
            assert isinstance(reply, m.RunList)
            runs += reply.runs
            more = reply.more
        return tuple(runs)

    def heads(self, master: str | None = None) -> tuple[HeadInfo, ...]:
        """The heads of one Master's instrument, or of all, in the order of the configuration. Raises UnknownMaster."""
        reply = self.ask(m.ListHeads(0, master))
        assert isinstance(reply, m.HeadList)
        return reply.heads

    def standing_alarms(self) -> tuple[AlarmInfo, ...]:
        """The alarms that stand at the daemon, oldest first.

        Each has ``.kind``, ``.level``, ``.subject``, ``.about``, ``.message``, and ``.since`` when it stands. What the
        daemon has published, also of what is over by now, is in :attr:`alarms`.
        """
        reply = self.ask(m.ListAlarms(0))
        assert isinstance(reply, m.AlarmList)
        return reply.alarms

    def set_head(self, master: str, head: str, *, inside: bool, reason: str = "", who: str | None = None) -> None:
        """Take a head out of service, safe, when its task has ended; or put it back, out of quarantine, too.

        ``who`` does it is on record, by default the login name; so it is with :meth:`stop` and :meth:`reset`. Raises
        UnknownMaster, NotAllowed where there are no heads, UnknownHead if there is none of this name.
        """
        master, head = text(master, "a Master's name"), text(head, "a head's name")
        self.ask(m.SetHead(0, master, head, inside, text(reason, "reason"), login(who)))

    def stop(self, master: str | None = None, reason: str = "", *, who: str | None = None) -> None:
        """Emergency stop: each head of this Master, or of all, breaks off what it does and goes to its safe state.

        It stays there, whatever is restarted, until :meth:`reset`. It is no substitute for hard-wired interlocks.
        """
        self.ask(m.Stop(0, master, text(reason, "reason"), login(who)))

    def reset(self, master: str | None = None, reason: str = "", *, who: str | None = None) -> None:
        """Undo :meth:`stop`."""
        self.ask(m.Reset(0, master, text(reason, "reason"), login(who)))

    def held(self, master: str | None = None, *, run: int | None = None) -> tuple[HeldTask, ...]:
        """The tasks in doubt of one Master, of the run of this number, or all; oldest run first.

        Their workers were lost, and ``on_lost = "hold"``: they wait for :meth:`resolve`. Raises UnknownMaster or
        UnknownRun.
        """
        tasks: list[HeldTask] = []
        more = True
        while more:
            reply = self.ask(held_message(master, run, tasks))
            assert isinstance(reply, m.HeldList)
            tasks += reply.tasks
            more = reply.more
        return tuple(tasks)

    def resolve(
        self,
        run: int,
        index: int,
        action: str,
        output: Any = None,
        *,
        reason: str = "",
        attempt: int = 0,
        who: str | None = None,
    ) -> None:
        """Say what becomes of a task in doubt: ``run`` is the number of its run.

        ``"done"`` it was, with this ``output`` (that of the Master, or a dict of several); ``"retry"``: it is evaluated
        again; ``"resume"``: it goes on from the checkpoint that it has left; ``"fail"``, for this ``reason``. With an
        ``attempt`` it is only about that one, see
        :class:`~taskmaster.bus.status.HeldTask`. ``who`` says so is on record, by default the login name.
        Raises UnknownRun, UnknownTask if it is not in doubt, CallerError for another action, InvalidOutput for an
        output that the Master does not declare so.
        """
        resolution = Resolution(run, index, action, output, reason, attempt, who)
        self.ask(*resolution.request(self.ask(resolution.question), self._core))

    def delete_run(self, run: int) -> None:
        """Forget a run that has no open tasks, with everything measured in it. ``run`` is its number.

        Whoever follows it gets UnknownRun. Raises NotAllowed while it has open tasks.
        """
        self.ask(m.Delete(0, run_number(run)))

    def fork(self, run: int, name: str, at: int | None = None) -> RunInfo:
        """Make a run ``name`` of the same Master that starts from the first ``at`` events of this one, or all.

        ``run`` is the number of the run. What was measured is not measured again: tasks that had been put by then and
        ended later keep how they ended, behind those events. Tasks without an outcome are open in the fork, which is
        paused where the Master is an instrument's. Returns the new run, which :meth:`Master.open` goes on with. Raises
        UnknownRun, CallerError if there are not so many events, Conflict if the name is taken.
        """
        reply = self.ask(fork_message(run, name, at))
        assert isinstance(reply, m.Forked)
        return reply.run

    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any:
        """Send a request and wait for its reply; raises what the daemon answers, or DaemonUnreachable.

        It is not asked any further then; whether it is carried out is not known.
        """
        return self._ask(message, frames, self.patience)

    def page(self, message: m.Replay | m.ReadAsks) -> tuple[Any, Sequence[bytes]]:
        """A page of what is recorded of a run, with its frames: see :class:`~taskmaster.learners.history.History`.

        Waits for a daemon that is away to come back.
        """
        request = self._asker.answered(message, (), None)
        return request.reply, request.attached

    def pages(self, question: Any, following: Callable[[Any], Any]) -> Iterator[tuple[Any, Sequence[bytes]]]:
        """Pages as of :meth:`page`, one behind the other; see :meth:`taskmaster.learners.asker.Asker.pages`."""
        return self._asker.pages(question, following)

    def _ask(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Any:
        return self._asker.answered(message, frames, patience).reply

    def close(self, timeout: float | None = None) -> None:
        """Wait until what was put is acknowledged, then disconnect. Runs stay with the daemon, and go on there.

        That is waited for ``timeout`` seconds, by default as long as the connection's ``patience`` says. Raises
        DaemonUnreachable, being disconnected, if it was not acknowledged.
        """
        lost = self._leave(self.patience if timeout is None else timeout)
        if lost:
            raise self._unsettled(lost)

    def _leave(self, timeout: float | None) -> str:
        """Disconnect; says what had not been acknowledged within ``timeout`` seconds."""
        channel, core = self._channel, self._core
        if channel.closed:
            return ""
        try:
            channel.wait(lambda: core.is_settled, timeout)
            return core.unsettled()
        finally:
            self._finalizer.detach()
            channel.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif lost := self._leave(1.0):  # what has gone wrong before is what is to be raised
            log.warning("%s", self._unsettled(lost))


class Master(PeopleOfMaster):
    """One Master of a daemon: ``lab["svm"]``.

    :meth:`map` is the short way, :meth:`open` the long one, to a run with a name that can be taken up again. In between
    stand :attr:`tasks` and :attr:`results`, the channels of a run that is opened when they are first used.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab._core, name)
        self.lab = lab
        self._opening = threading.Lock()
        self._default: Run | None = None

    @property
    def slots(self) -> int:
        """How many tasks it evaluates at a time, now."""
        return self.statistics().slots

    def statistics(self) -> MasterStatus:
        """Its state, queue, workers and counts."""
        return self._find(self.lab.status())

    def wait_for_slots(self, timeout: float = SLOTS_SECONDS) -> int:
        """:attr:`slots` as soon as all its workers have started, or when ``timeout`` seconds have passed."""
        deadline = time.monotonic() + duration(timeout, "timeout")
        status = self.statistics()
        while (status.starting or not status.slots) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            status = self.statistics()
        return status.slots

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Run:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``seed`` and ``metadata`` are recorded with a new run (the daemon chooses a seed if it is None). ``since`` says
        which results of an existing run come: ``"start"`` all, ``"now"`` those that arrive from now on. The run of the
        highest ``priority`` goes first, equals share. Raises Conflict if the run exists with another seed.
        """
        check_since(since)
        return self._open(self._open_message(name, seed, priority, metadata), since)

    def watch(self, name: str, since: str = "start") -> Run:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        check_since(since)
        return self._open(self._watch_message(name), since)

    def _open(self, message: m.Open, since: str) -> Run:
        opened = self.lab.ask(message)
        channel, core = self.lab._channel, self.lab._core
        with channel.lock:
            run = core.opened(opened, write=message.write, since=since)
        try:
            if not channel.wait(lambda: core.is_following(run), self.lab.patience):
                raise self.lab._deaf()
        except BaseException:
            with channel.lock:
                core.forget(run)
            raise
        return Run(self, run)

    # -- a Master's own tasks and results ----------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """A run of this object's own, opened when it is first used."""
        with self._opening:  # two threads that use it first have one run
            if self._default is None:
                self._default = self.open()
            return self._default

    @property
    def tasks(self) -> Tasks:
        """The ``tasks`` channel of :attr:`run`."""
        return self.run.tasks

    @property
    def results(self) -> Results:
        """The ``results`` channel of :attr:`run`."""
        return self.run.results

    def map(self, points: Any) -> list[Any]:
        """The outputs for ``points`` (see :meth:`Tasks.put_many`), in their order.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        with _Errand(self) as run:
            outputs: list[Any] = [None] * len(run.tasks.put_many(points))
            for chunk in run.results.chunks(lambda core: core.open_tasks <= 0):
                chunk.spread(outputs)
        return outputs

    def imap_unordered(self, points: Any) -> Iterator[Result]:
        """Results for ``points`` as they come. Those that nobody waits for any more are cancelled."""
        with _Errand(self) as run:
            run.tasks.put_many(points)
            yield from run.results

    # -- switches -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Evaluate nothing further, of any run; what is being evaluated goes on."""
        self.lab.ask(m.Pause(0, self.name))

    def resume(self) -> None:
        """Undo :meth:`pause`; also tries again where workers had been given up."""
        self.lab.ask(m.Resume(0, self.name))

    def set_workers(self, count: int) -> None:
        """Have the daemon keep ``count`` local worker processes. Raises CallerError unless it is 0 to 4096."""
        self.lab.ask(self._workers_message(count))


class _Errand:
    """A run for one call, which nobody comes back to."""

    def __init__(self, master: Master) -> None:
        self._run = master.open(since="now")

    def __enter__(self) -> Run:
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, lab = self._run, self._run.master.lab
        if error is None or run._core.error is not None:
            run.close()
            return
        # Whatever happened, nobody waits for the rest. The daemon gets to know; its answers are not waited for either.
        channel = run._channel
        with channel.lock:
            if not channel.closed:
                lab._core.give_up(run._core, time.monotonic())
                channel.flush()
