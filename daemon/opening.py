"""Runs are opened, made, and forked, and what their writers say of themselves is noted. Sans-I/O, see `core`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, Conflict, UnknownRun
from taskmaster.bus.table import Table
from taskmaster.bus.text import did_you_mean
from taskmaster.daemon.effects import (
    Effects,
    Forking,
    Query,
    Reply,
    RunCreated,
    RunForked,
    Sender,
    WasOpened,
    WriterChanged,
    WriterNoted,
)
from taskmaster.daemon.master import Master
from taskmaster.daemon.roles import Right
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Resting, Runs, metadata_of
from taskmaster.daemon.workforce import known_master

__all__ = ["MOST_METADATA", "MOST_METADATA_IN_ALL", "MOST_RUNS", "Opening", "check_priority", "opened"]

#: How many who ask for an unknown run in one turn are told of one with a name like it: to find that takes a while.
_HINTS = 2
#: Runs of the owner of one key: each takes some hundred bytes of memory as long as it is there.
MOST_RUNS = 100_000
#: Bytes of what is recorded of a run or by a writer, which stays in the journal; of a run also in memory, …
MOST_METADATA = 64 << 10
#: … and of that in all runs of the owner of one key.
MOST_METADATA_IN_ALL = 256 << 20
#: With more bytes recorded of a run than these, the answer to whoever opens it waits until it is read.
_FEW_BYTES = 1 << 10


class Opening:
    """Where runs begin, for all Masters of a daemon."""

    def __init__(self, masters: Mapping[str, Master], runs: Runs, new_seed: Callable[[], int]) -> None:
        self._masters = masters
        self._runs = runs
        self._new_seed = new_seed
        self._hints = _HINTS

    def begin_turn(self) -> None:
        """What is allowed in a turn is allowed anew."""
        self._hints = _HINTS

    def open(self, sender: Sender, message: m.Open, table: Table | None, out: Effects) -> None:
        """Somebody wants to read a run, or to write it, which makes it where there is none."""
        master = known_master(self._masters, message.master)
        check_priority(message.priority or 0)
        run = self._runs.named(message.master, message.name)
        if run is None:
            if not (message.create and message.write):
                raise UnknownRun(f"Master {message.master!r} has no run {message.name!r}{self._hint(message)}")
            run = self._create(sender, message, out)
        elif message.seed is not None and message.seed != run.seed:
            raise Conflict(
                f"run {run.name!r} of Master {run.master!r} has seed {run.seed}, not {message.seed}; "
                "open it without a seed, or choose another name"
            )
        writer = self._new_writer(sender, message, run, out) if message.write else 0
        master.backlog.note(run)  # its priority may be another one
        was = WasOpened(message.id, run.id, writer, run.next_index, run.next_seq, run.closed, len(run.open))
        if sum(len(key) + len(value) for key, value in run.metadata.items()) > _FEW_BYTES:
            out.queries.append(Query(sender.address, was, sender.peer))
        else:
            out.replies.append(Reply(sender.address, opened(was, run)))

    def _hint(self, message: m.Open) -> str:
        self._hints -= 1
        return did_you_mean(message.name, self._runs.latest_names(message.master)) if self._hints >= 0 else ""

    @staticmethod
    def _new_writer(sender: Sender, message: m.Open, run: Run, out: Effects) -> int:
        known = run.claims.get(message.claim)
        if known is not None:
            return known
        run.admit(message.claim)
        out.records.append(WriterChanged(run.id, run.writer, sender.user, out.wall, message.claim, run.next_index))
        run.reopen(out)
        if message.priority is not None and message.priority != run.priority:
            run.priority = message.priority
            run.changed(out)
        return run.writer

    def _create(self, sender: Sender, message: m.Open, out: Effects) -> Run:
        _check_name(message.name)
        _check_metadata(message.metadata, f"run {message.name!r} of Master {message.master!r}: its metadata")
        self._require_room_for_a_run(sender)
        seed = self._new_seed() if message.seed is None else message.seed
        if not 0 <= seed < 2**63:
            raise CallerError(f"a seed must be a whole number from 0 to 2**63 - 1, not {seed}")
        run = Run(self._runs.next_number, message.master, message.name, seed, out.wall, sender.user)
        run.metadata = dict(message.metadata)
        run.priority = message.priority or 0
        out.records.append(
            RunCreated(run.id, run.master, run.name, seed, out.wall, sender.user, run.metadata, run.priority)
        )
        self._runs.add(run)
        return run

    def _require_room_for_a_run(self, sender: Sender) -> None:
        made = self._runs.made[sender.user]
        if made >= MOST_RUNS and not sender.peer.is_local:
            raise CallerError(
                f"the daemon has {made} runs of key {sender.user!r}, which is the most that one may have; delete some "
                "(taskmaster runs delete), or have the daemon's operator do so"
            )
        size = self._runs.metadata_bytes[sender.user]
        if size >= MOST_METADATA_IN_ALL and not sender.peer.is_local:
            raise CallerError(
                f"the runs of key {sender.user!r} have {size} bytes of metadata, and one key's may have "
                f"{MOST_METADATA_IN_ALL}; delete some (taskmaster runs delete), or have the daemon's operator do so"
            )

    def note_writer(self, sender: Sender, message: m.NoteWriter, table: Table | None, out: Effects) -> None:
        """A run's writer says what it is."""
        run = self._runs.require(message.run)
        run.require_writer(message.writer)
        _check_metadata(message.metadata, f"run {run.name!r} of Master {run.master!r}: what its writer says of itself")
        out.records.append(WriterNoted(message.run, message.writer, message.metadata))
        out.replies.append(Reply(sender.address, m.Done(message.id)))

    def fork(self, sender: Sender, message: m.Fork, table: Table | None, out: Effects) -> None:
        """Somebody wants a run that starts from the beginning of another one."""
        self._require_room_for_a_run(sender)
        out.forks.append(Forking(sender, message))

    def forked(self, forking: Forking, now: float) -> RunForked | Run:
        """What is to be recorded of a run that somebody wants forked; or the fork, where they have it already.

        Raises UnknownRun, CallerError where the run has not so many events, Conflict where another has that name.
        """
        message = forking.message
        source = self._runs.require(message.run)
        _check_name(message.name)
        at = source.next_seq if message.at is None else message.at
        if at > source.next_seq:
            raise CallerError(f"run {source.name!r} has {source.next_seq} events, it cannot be forked at {at}")
        origin = {"forked_from": f"{source.master}/{source.name}", "forked_at": str(at)}
        known = self._runs.named(source.master, message.name)
        if known is not None and origin.items() <= known.metadata.items():
            return known
        if known is not None:
            raise Conflict(f"Master {source.master!r} has a run {message.name!r} already; choose another name")
        spec = known_master(self._masters, source.master).spec
        return RunForked(
            self._runs.next_number,
            source.id,
            at,
            source.master,
            message.name,
            source.seed,
            now,
            forking.sender.user,
            {**source.metadata, **origin},
            source.priority if forking.sender.peer.may(Right.OPERATE) else min(0, source.priority),
            bool(spec.heads) or not spec.repeatable,
        )


def opened(was: WasOpened, run: Run | Resting) -> m.Opened:
    """What whoever has opened a run is told."""
    return m.Opened(
        was.id,
        was.run,
        run.master,
        run.name,
        was.writer,
        was.next_index,
        was.next_seq,
        run.seed,
        was.closed,
        was.open,
        run.metadata if isinstance(run, Run) else metadata_of(run),
    )


def _check_name(name: str) -> None:
    if not name or len(name) > 200 or not name.isprintable():
        raise CallerError(f"{name[:40]!r} cannot name a run; use 1 to 200 printable characters")


def _check_metadata(metadata: Mapping[str, str], what: str) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MOST_METADATA:
        raise CallerError(
            f"{what} takes {size} bytes, at most {MOST_METADATA} are kept; name a file that has the rest, or make it "
            "an input"
        )


def check_priority(priority: int) -> None:
    """Raise CallerError where a run cannot have it."""
    if not -(2**31) <= priority < 2**31:
        raise CallerError(f"a priority must be a whole number from -2**31 to 2**31 - 1, not {priority}")
