"""The asyncio client: what :mod:`taskmaster.learners.client` offers, to be awaited.

    async with connect("tcp://127.0.0.1:5570") as lab:
        async with lab["svm"].open("first-try") as run:
            await run.tasks.put({"log_C": 0.0, "log_gamma": -3.0})
            async for x, y in run.results:
                ...

The names are the same, and so are the errors and what happens when the daemon goes away. What waits there is awaited
here; what looks a number up at the daemon is a method to be awaited and no property. A connection belongs to the event
loop in which it was made. Whatever is awaited may be cancelled: no result is lost by it and no task is put twice.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from taskmaster.bus import messages as m
from taskmaster.bus.keys import Credentials, credentials_for
from taskmaster.bus.places import default_address
from taskmaster.bus.status import AlarmInfo, DaemonStatus, HeadInfo, HeldTask, MasterStatus, RunInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners.aiochannel import AsyncChannel
from taskmaster.learners.aiopeople import PeopleOfLab, PeopleOfMaster
from taskmaster.learners.aiorun import Results, Run, Tasks
from taskmaster.learners.arguments import check_since, duration, text
from taskmaster.learners.auditing import AsyncAuditOfLab
from taskmaster.learners.clientseries import AsyncSeriesOfLab
from taskmaster.learners.people import login
from taskmaster.learners.requests import Request, unanswered
from taskmaster.learners.resolving import Resolution, held_message
from taskmaster.learners.results import Result
from taskmaster.learners.views import ANSWER_SECONDS, LabView, fork_message, run_number

log = logging.getLogger("taskmaster")

__all__ = ["Lab", "Master", "Opening", "Results", "Run", "Tasks", "connect"]


class _Closable(Protocol):
    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T = TypeVar("T", bound=_Closable)


class Opening(Awaitable[T], Generic[T]):
    """Something that is being opened: ``await`` it and close it later, or let ``async with`` do both."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._opening = opening
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._opening().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._opening()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)


def connect(
    address: str | None = None,
    timeout: float = ANSWER_SECONDS,
    patience: float | None = ANSWER_SECONDS,
    *,
    key: str | Path | None = None,
    daemon_key: str | None = None,
) -> Opening[Lab]:
    """Connect to a daemon's control socket; by default ``$TASKMASTER``, else the local daemon's.

    ``key`` and ``daemon_key`` as of :func:`taskmaster.learners.client.connect`.

    ``lab = await connect()``, or ``async with connect() as lab:``. Raises DaemonUnreachable if no daemon answers within
    ``timeout`` seconds. ``patience`` is what it may take to answer later, see :class:`Lab`.
    """

    async def open_lab() -> Lab:
        chosen = address or default_address()
        lab = Lab(chosen, patience, credentials_for(chosen, key, daemon_key))
        try:
            await lab._describe(duration(timeout, "timeout"))
        except BaseException:
            lab._finalizer.detach()
            lab._channel.close()
            raise
        return lab

    return Opening(open_lab)


class Lab(PeopleOfLab, AsyncAuditOfLab, AsyncSeriesOfLab, LabView):
    """A connection to one daemon: a mapping of names to Masters. Made by :func:`connect`.

    If the daemon goes away, putting and taking wait for it to come back, and then go on; nothing is lost. What asks it
    for an answer (opening a run, and so :meth:`Master.map` and a Loop when they begin; its status, switches) waits
    ``patience`` seconds and raises DaemonUnreachable then. With ``patience=None`` that waits, too.
    """

    def __init__(
        self, address: str, patience: float | None = ANSWER_SECONDS, credentials: Credentials | None = None
    ) -> None:
        super().__init__(address, patience, credentials)
        self._channel = AsyncChannel(self._core)
        self._finalizer = weakref.finalize(self, AsyncChannel.retire, self._channel)

    async def _describe(self, timeout: float) -> None:
        request = self._core.describe(self._channel.loop.time())
        if not await self._channel.wait(lambda: request.answered, timeout):
            raise await asyncio.to_thread(self._nobody)
        if request.error is not None:
            raise request.error

    def __getitem__(self, name: str) -> Master:
        """The Master of this name. Raises UnknownMaster."""
        return Master(self, name)

    async def status(self) -> DaemonStatus:
        """Everything the daemon tells about itself."""
        reply = await self.ask(m.Status(0))
        assert isinstance(reply, m.StatusReport)
        return reply.status

    async def runs(self, master: str | None = None) -> tuple[RunInfo, ...]:
        """The runs of one Master, or of all."""
        runs: list[RunInfo] = []
        more = True
        while more:
            reply = await self.ask(m.ListRuns(0, master, runs[-1].run if runs else 0))
            assert isinstance(reply, m.RunList)
            runs += reply.runs
            more = reply.more
        return tuple(runs)

    async def heads(self, master: str | None = None) -> tuple[HeadInfo, ...]:
        """The heads of one Master's instrument, or of all, in the order of the configuration. Raises UnknownMaster."""
        reply = await self.ask(m.ListHeads(0, master))
        assert isinstance(reply, m.HeadList)
        return reply.heads

    async def standing_alarms(self) -> tuple[AlarmInfo, ...]:
        """The alarms that stand at the daemon, oldest first.

        Each has ``.kind``, ``.level``, ``.subject``, ``.about``, ``.message``, and ``.since`` when it stands. What the
        daemon has published, also of what is over by now, is in :attr:`alarms`.
        """
        reply = await self.ask(m.ListAlarms(0))
        assert isinstance(reply, m.AlarmList)
        return reply.alarms

    async def set_head(self, master: str, head: str, *, inside: bool, reason: str = "", who: str | None = None) -> None:
        """Take a head out of service, safe, when its task has ended; or put it back, out of quarantine, too.

        ``who`` does it is on record, by default the login name; so it is with :meth:`stop` and :meth:`reset`. Raises
        UnknownMaster, NotAllowed where there are no heads, UnknownHead if there is none of this name.
        """
        master, head = text(master, "a Master's name"), text(head, "a head's name")
        await self.ask(m.SetHead(0, master, head, inside, text(reason, "reason"), login(who)))

    async def stop(self, master: str | None = None, reason: str = "", *, who: str | None = None) -> None:
        """Emergency stop: each head of this Master, or of all, breaks off what it does and goes to its safe state.

        It stays there, whatever is restarted, until :meth:`reset`. It is no substitute for hard-wired interlocks.
        """
        await self.ask(m.Stop(0, master, text(reason, "reason"), login(who)))

    async def reset(self, master: str | None = None, reason: str = "", *, who: str | None = None) -> None:
        """Undo :meth:`stop`."""
        await self.ask(m.Reset(0, master, text(reason, "reason"), login(who)))

    async def held(self, master: str | None = None, *, run: int | None = None) -> tuple[HeldTask, ...]:
        """The tasks in doubt of one Master, of the run of this number, or all; oldest run first.

        Their workers were lost, and ``on_lost = "hold"``: they wait for :meth:`resolve`. Raises UnknownMaster or
        UnknownRun.
        """
        tasks: list[HeldTask] = []
        more = True
        while more:
            reply = await self.ask(held_message(master, run, tasks))
            assert isinstance(reply, m.HeldList)
            tasks += reply.tasks
            more = reply.more
        return tuple(tasks)

    async def resolve(
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
        await self.ask(*resolution.request(await self.ask(resolution.question), self._core))

    async def delete_run(self, run: int) -> None:
        """Forget a run that has no open tasks, with everything measured in it. ``run`` is its number.

        Whoever follows it gets UnknownRun. Raises NotAllowed while it has open tasks.
        """
        await self.ask(m.Delete(0, run_number(run)))

    async def fork(self, run: int, name: str, at: int | None = None) -> RunInfo:
        """Make a run ``name`` of the same Master that starts from the first ``at`` events of this one, or all.

        ``run`` is the number of the run. What was measured is not measured again: tasks that had been put by then and
        ended later keep how they ended, behind those events. Tasks without an outcome are open in the fork, which is
        paused where the Master is an instrument's. Returns the new run, which :meth:`Master.open` goes on with. Raises
        UnknownRun, CallerError if there are not so many events, Conflict if the name is taken.
        """
        reply = await self.ask(fork_message(run, name, at))
        assert isinstance(reply, m.Forked)
        return reply.run

    async def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any:
        """Send a request and wait for its reply; raises what the daemon answers, or DaemonUnreachable.

        It is not asked any further then, nor if this is cancelled; whether it is carried out is not known.
        """
        return await self._ask(message, frames, self.patience)

    async def page(self, message: m.Replay | m.ReadAsks) -> tuple[Any, Sequence[bytes]]:
        """A page of what is recorded of a run, with its frames. Waits for a daemon that is away to come back."""
        request = await self._answered(message, (), None)
        return request.reply, request.attached

    async def _ask(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Any:
        return (await self._answered(message, frames, patience)).reply

    async def _answered(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Request:
        self._channel.require_open()
        request = self._core.request(message, self._channel.loop.time(), frames)
        try:
            if not await self._channel.wait(lambda: request.answered, patience):
                raise unanswered(self.address, request, patience)
        finally:
            self._core.withdraw(request)
        if request.error is not None:
            raise request.error
        return request

    async def close(self, timeout: float | None = None) -> None:
        """Wait until what was put is acknowledged, then disconnect. Runs stay with the daemon, and go on there.

        That is waited for ``timeout`` seconds, by default as long as the connection's ``patience`` says. Raises
        DaemonUnreachable, being disconnected, if it was not acknowledged.
        """
        lost = await self._leave(self.patience if timeout is None else timeout)
        if lost:
            raise self._unsettled(lost)

    async def _leave(self, timeout: float | None) -> str:
        """Disconnect; says what had not been acknowledged within ``timeout`` seconds."""
        channel, core = self._channel, self._core
        if channel.closed:
            return ""
        try:
            await channel.wait(lambda: core.is_settled, timeout)
            return core.unsettled()
        finally:
            self._finalizer.detach()
            channel.close()

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif lost := await self._leave(1.0):  # what has gone wrong before is what is to be raised
            log.warning("%s", self._unsettled(lost))


class Master(PeopleOfMaster):
    """One Master of a daemon: ``lab["svm"]``. :meth:`map` is the short way, :meth:`open` the long one."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab._core, name)
        self.lab = lab

    async def slots(self) -> int:
        """How many tasks it evaluates at a time, now."""
        return (await self.statistics()).slots

    async def statistics(self) -> MasterStatus:
        """Its state, queue, workers and counts."""
        return self._find(await self.lab.status())

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[Run]:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``run = await master.open()``, or ``async with master.open() as run:``. ``seed`` and ``metadata`` are recorded
        with a new run (the daemon chooses a seed if it is None). ``since`` says which results of an existing run come:
        ``"start"`` all, ``"now"`` those that arrive from now on. The run of the highest ``priority`` goes first, equals
        share. Raises Conflict if the run exists with another seed.
        """
        check_since(since)
        return Opening(lambda: self._open(self._open_message(name, seed, priority, metadata), since))

    def watch(self, name: str, since: str = "start") -> Opening[Run]:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        check_since(since)
        return Opening(lambda: self._open(self._watch_message(name), since))

    async def _open(self, message: m.Open, since: str) -> Run:
        opened = await self.lab.ask(message)
        core, channel = self.lab._core, self.lab._channel
        run = core.opened(opened, write=message.write, since=since)
        try:
            if not await channel.wait(lambda: core.is_following(run), self.lab.patience):
                raise self.lab._deaf()
        except BaseException:
            core.forget(run)
            raise
        return Run(self, run)

    async def map(self, points: Any) -> list[Any]:
        """The outputs for ``points`` (see :meth:`Tasks.put_many`), in their order.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        async with _Errand(self) as run:
            outputs: list[Any] = [None] * len(await run.tasks.put_many(points))
            async for chunk in run.results.chunks(lambda core: core.open_tasks <= 0):
                chunk.spread(outputs)
        return outputs

    async def imap_unordered(self, points: Any) -> AsyncIterator[Result]:
        """Results for ``points`` as they come. Those that nobody waits for any more are cancelled."""
        async with _Errand(self) as run:
            await run.tasks.put_many(points)
            async for result in run.results:
                yield result

    async def pause(self) -> None:
        """Evaluate nothing further, of any run; what is being evaluated goes on."""
        await self.lab.ask(m.Pause(0, self.name))

    async def resume(self) -> None:
        """Undo :meth:`pause`; also tries again where workers had been given up."""
        await self.lab.ask(m.Resume(0, self.name))

    async def set_workers(self, count: int) -> None:
        """Have the daemon keep ``count`` local worker processes. Raises CallerError unless it is 0 to 4096."""
        await self.lab.ask(self._workers_message(count))


class _Errand:
    """A run for one call, which nobody comes back to."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._run: Run

    async def __aenter__(self) -> Run:
        self._run = await self._master.open(since="now")
        return self._run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, channel = self._run, self._run._channel
        if error is None or run._core.error is not None:
            await run.close()
        elif not channel.closed:
            # Nobody waits for the rest. The daemon gets to know; its answers are not waited for either.
            self._master.lab._core.give_up(run._core, channel.loop.time())
            channel.send()
