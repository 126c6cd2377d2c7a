"""The guardian of an instrument: ``python -m taskmaster.drivers.instruments.guardian``.

One process for each Master that has heads. It hosts their workers, as `hosting` says, and is there when one of them
cannot do what it has to: a worker that has died, that hangs, or that does not stop when it is told to, is ended, and
its head brought to the safe state by a fresh process (`securing`), before another worker is started. It does nothing
else: no vendor's library is ever loaded here, no instrument spoken to.

It is no part of the daemon's process and outlives it, killed or stopped: workers go on with what they have in hand, and
report it to the next daemon, which finds this guardian by its connection. Where the daemon stays away for ``deadman``,
every worker brings its head to the safe state by itself; for one that does not, this process does. Where this process
itself is killed, its workers notice, make their heads safe and end; the next guardian ends any that has not.

There is one per folder, which it locks. Which heads there are, and how they are reached, it is told by the daemon
(`GuardianPlan`), and told again by one with another configuration; then workers are replaced when they have no task.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import os
import shutil
import socket as sockets_
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from taskmaster.bus import messages as m
from taskmaster.config.heads import heads_of
from taskmaster.drivers.host import Seat, new_token, start, watched
from taskmaster.drivers.hosting import Host, Place
from taskmaster.drivers.instruments.leftovers import Leftovers
from taskmaster.drivers.instruments.seats import SECURE_SECONDS, STOP_SECONDS, HeadProcess, HeadSeat
from taskmaster.drivers.instruments.securing import Securing

__all__ = ["EXIT_LOCKED", "Guardian", "guard", "main"]

log = logging.getLogger("taskmaster.guardian")

#: Another guardian has the folder.
EXIT_LOCKED = 5
#: The file in the folder where this process and its workers write what they have to say …
LOG = "log"
#: … which is begun anew when it is larger than this; the one before is kept.
_LOG_BYTES = 4 << 20

#: Workers act on a lost daemon by themselves; those that have not after so much longer are ended.
DEADMAN_LENIENCY = 2.0
#: The same for a task that takes longer than its time-out.
TIMEOUT_LENIENCY = 2.0
#: Pauses between starts of a worker that dies at once.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
#: One that has lived so long did not die at once.
_LIVED_SECONDS = 10.0


class Guardian(Host[HeadProcess]):
    """Hosts the workers of one instrument's heads, and sees to it that these are safe where it matters."""

    # A worker is told as well, and breaks off its task as at a stop.
    grace = STOP_SECONDS

    def __init__(self, place: Place, path: Sequence[Path] = (), *, stays: bool = False) -> None:
        """``path`` has folders to import from first; with ``stays`` it awaits the daemon's return however it went."""
        super().__init__(place)
        self._stays = stays
        self._path = path
        self._token = new_token(place.master)
        self._plan: m.GuardianPlan | None = None
        #: the daemon has stopped in order: no further processes; True: nor those there are, whatever they do
        self._resting: bool | None = None
        self._daemon_heard = time.monotonic()
        self._securing = Securing(self._on_guarded)
        self._leftovers = Leftovers(self._last_word)
        #: by the heads of a process: when to start it next, and how long to wait after its next early death
        self._next_start: dict[tuple[str, ...], float] = {}
        self._pauses: dict[tuple[str, ...], float] = {}
        self._gave_up = False
        self._next_tidying = 0.0

    # -- what it knows ------------------------------------------------------------------------------------------------

    @property
    def _deadman(self) -> float:
        return float(self._plan.options.get("deadman") or 60.0) if self._plan is not None else 60.0

    @property
    def _is_alone(self) -> bool:
        """Whether the daemon has not been heard of for too long."""
        return time.monotonic() - self._daemon_heard > self._deadman

    @property
    def is_leaving(self) -> bool:
        return self._resting is not None or self.requests > 0 or self._is_alone

    @property
    def is_over(self) -> bool:
        if self._gave_up:
            return True
        leaving = self.requests > 0 if self._stays else self.is_leaving
        return leaving and not (self.processes or self.mourned or self._securing or self._leftovers)

    @property
    def leniency(self) -> float:
        return TIMEOUT_LENIENCY

    # -- the daemon ---------------------------------------------------------------------------------------------------

    def hello(self) -> None:
        """Say who this is, and before that, what has become of the workers of the one before."""
        place = self.place
        for lost in self._leftovers.to_tell:
            self.send(lost)
        self.send(m.GuardianHello(m.PROTOCOL_VERSION, place.master, self._token, os.getpid(), sockets_.gethostname()))

    def on_line(self, *, is_up: bool) -> None:
        log.warning("Master %r: the daemon is %s", self.place.master, "there" if is_up else "gone")
        if is_up:
            self.hello()

    def on_message(self, message: m.ToHost) -> None:
        if isinstance(message, m.Refused):
            if message.code == m.HELLO:
                self.hello()
            elif message.code == m.UNHEEDED:
                log.warning("Master %r: the daemon does not heed its guardian: %s", self.place.master, message.message)
            else:
                log.error("Master %r: the daemon refuses its guardian: %s", self.place.master, message.message)
                self._resting = False
            return
        self._daemon_heard = time.monotonic()
        if isinstance(message, m.GuardianPlan):
            self._plan = message
            self._resting = None
            self._leftovers.on_told()  # the answer to a hello: what was said before it is on the daemon's disk
        elif isinstance(message, m.Rest):
            self._resting = message.stop
        elif isinstance(message, m.Guard):
            for seat in self._seats:
                if seat.token == message.token:
                    seat.stopped_since = self._daemon_heard if message.stop else None

    @property
    def _seats(self) -> Iterator[HeadSeat]:
        return (seat for process in self.processes for seat in process.seats)

    def _on_guarded(self, guarded: m.Guarded) -> None:
        if guarded.error:
            log.error("head %r of Master %r is NOT SAFE: %s", guarded.head, guarded.master, guarded.error)
        else:
            log.warning("head %r of Master %r was made safe: %s", guarded.head, guarded.master, guarded.reason)
        self.send(guarded)

    # -- a turn -------------------------------------------------------------------------------------------------------

    def adopt(self, folder: Path) -> None:
        """Take up the workers of a guardian that was killed: they have noticed, or will be ended."""
        self._leftovers.adopt(folder, time.monotonic())

    def act(self, now: float) -> None:
        if now >= self._next_tidying:
            self._next_tidying = now + 60.0
            _tidy(self.folder / LOG)
        self._see_to_leftovers(now)
        self._enforce(now)
        if self._plan is None:
            return
        self._securing.look(now, self._plan)
        if self._gives_up(now):
            left = ", ".join(self._securing.abandon())
            log.error("Master %r: gave up; NOT known to be safe: %s", self.place.master, left)
            self._gave_up = True
        elif self.is_leaving:
            self._send_home()
        else:
            self._replace_outdated()
            self._fill(now)

    def due(self, now: float) -> Iterable[float]:
        yield from self._securing.due()
        if not self.is_leaving and self._plan is not None:
            yield from (self._next_start.get(heads, now) for heads in self._missing())
        if any(seat.stopped_since is not None for seat in self._seats) or self.is_leaving or self._leftovers:
            yield now + 0.05

    def _see_to_leftovers(self, now: float) -> None:
        for seat, lost in self._leftovers.look(now):
            if seat.may_be_unsafe:
                self._securing.add(seat.head, lost.reason)
            self.hello()

    def _gives_up(self, now: float) -> bool:
        """Whether to let go of heads that cannot be made safe: told to go twice, or for as long as nobody is there."""
        if not self._securing or self.processes or self.mourned:
            return False
        if self.requests:
            return self.requests > 1 or now - self._requested > SECURE_SECONDS
        return self.is_leaving and now - self._daemon_heard > 2 * self._deadman

    def on_end(self) -> None:
        # Those that are left notice that this process has gone, and make their heads safe.
        self._securing.abandon()

    def on_request(self, requests: int) -> None:
        log.warning("Master %r: its guardian was told to go", self.place.master)
        self._requested = time.monotonic()
        if requests > 1:
            self.kill("its guardian was told to go at once")

    def _send_home(self) -> None:
        """End the workers: at once, or those that have nothing in hand; one that is alone sees to that itself."""
        for process in self.processes:
            if self._resting or self.requests:
                process.hurry()
            elif self._resting is False and not (process.was_told_to_go or any(seat.is_busy for seat in process.seats)):
                self.terminate(process)
            for seat in process.seats:
                if process.was_hurried and seat.stopped_since is None:
                    seat.stopped_since = time.monotonic()

    def _enforce(self, now: float) -> None:
        """End workers that have not done what they should have."""
        alone_since = self._daemon_heard + self._deadman + DEADMAN_LENIENCY
        for process in self.processes:
            for seat in process.seats:
                if fault := seat.fault(now, self._deadman, alone_since):
                    process.kill("WorkerLost", f"worker process {process.pid} was killed: {fault}")

    # -- workers ------------------------------------------------------------------------------------------------------

    def _groups(self) -> list[tuple[str, ...]]:
        """The heads of each process."""
        assert self._plan is not None
        heads = self._plan.heads
        return [heads] if self._plan.options.get("shared") else [(head,) for head in heads]

    def _digest(self, heads: tuple[str, ...]) -> bytes:
        """Of everything that a process is started with."""
        plan = self._plan
        assert plan is not None
        own = [options for options in heads_of(plan.options) if options["name"] in heads]
        common = msgspec.structs.replace(plan, options={}, heads=heads)
        return hashlib.sha256(msgspec.msgpack.encode((common, own))).digest()

    def _replace_outdated(self) -> None:
        groups = self._groups()
        for process in self.processes:
            fits = process.heads in groups and process.digest == self._digest(process.heads)
            if not fits and not process.was_told_to_go:
                self.terminate(process)

    def _missing(self) -> list[tuple[str, ...]]:
        taken = {head for process in (*self.processes, *self.mourned) for head in process.heads}
        taken |= self._leftovers.heads
        return [
            heads
            for heads in self._groups()
            if taken.isdisjoint(heads) and not any(head in self._securing for head in heads)
        ]

    def _fill(self, now: float) -> None:
        for heads in self._missing():
            if now < self._next_start.get(heads, 0.0):
                continue
            try:
                self.keep(self._spawn(heads, now), now)
            except OSError as error:
                log.warning("Master %r: no worker process can be started: %s", self.place.master, error)
                self._pause(heads, now)

    def _spawn(self, heads: tuple[str, ...], now: float) -> HeadProcess:
        assert self._plan is not None
        place = self.place
        seats = []
        for head in heads:
            token = new_token(place.master)
            seats.append(HeadSeat(head, token, self.folder / token, now))
        process = start(
            "taskmaster.drivers.instruments.worker",
            "--address", place.address, "--master", place.master, "--parent", str(os.getpid()),
            *(f"--path={entry}" for entry in self._path),
            *(word for seat in seats for word in ("--seat", seat.head, seat.token, str(self.folder / seat.token))),
            environment=self._plan.environment.items(),
        )  # fmt: skip
        return watched(process, lambda: HeadProcess(process, seats, self._digest(heads), now))

    def _pause(self, heads: tuple[str, ...], now: float) -> None:
        pause = self._pauses.get(heads, _FIRST_PAUSE)
        self._next_start[heads] = now + pause
        self._pauses[heads] = min(2 * pause, _LONGEST_PAUSE)

    def report_lost(self, seat: Seat, kind: str, reason: str) -> None:
        assert isinstance(seat, HeadSeat)
        self.send(self._last_word(seat, kind, reason))
        if seat.may_be_unsafe:
            self._securing.add(seat.head, reason)

    def _last_word(self, seat: HeadSeat, kind: str, reason: str) -> m.WorkerLost:
        noted, checkpoint = seat.noted(), seat.checkpoint()
        since = time.time() - (time.monotonic() - noted.alive) if noted is not None else 0.0
        if noted is None and checkpoint is not None:
            since = checkpoint.time
        return msgspec.structs.replace(self.lost(seat, kind, reason), checkpoint=checkpoint, since=since)

    def on_buried(self, process: HeadProcess, now: float, *, worked: bool) -> None:
        if process.left_as_agreed or worked or now - process.started > _LIVED_SECONDS:
            self._pauses.pop(process.heads, None)
        if process.left_as_agreed or worked:  # what it was at is in doubt now, and keeps its head from further work
            self._next_start.pop(process.heads, None)
        else:
            self._pause(process.heads, now)


def _tidy(path: Path) -> None:
    """Begin the log anew if it has grown large. Who writes to it appends, so it can be cut under their hands."""
    if not path.exists() or path.stat().st_size <= _LOG_BYTES:
        return
    before = path.with_suffix(".1")
    try:
        shutil.copyfile(path, before)
    except OSError:  # the disk is full: it does not grow either
        before.unlink(missing_ok=True)
    else:
        os.truncate(path, 0)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, for as long as this process lives; None if another has it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def guard(
    place: Place,
    folder: Path,
    path: Sequence[Path] = (),
    *,
    stays: bool = False,
    beat: Callable[[Host[HeadProcess]], None] = lambda host: None,
) -> bool:
    """Be the guardian of a Master's heads, which keeps its notes in ``folder``, until told to go.

    ``beat`` is called at the end of each turn. False if another has the folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _locked(folder)
    if lock is None:
        return False
    guardian = Guardian(place, path, stays=stays)
    guardian.adopt(folder)
    guardian.beat = beat
    guardian.serve(folder)
    os.close(lock)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of a guardian. SIGTERM has it make every head safe and go; a second one, go as it is."""
    parser = argparse.ArgumentParser(prog="python -m taskmaster.drivers.instruments.guardian", description=__doc__)
    parser.add_argument("--daemon", default="", help="its name, for people")
    parser.add_argument("--address", required=True)
    parser.add_argument("--master", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    options = parser.parse_args(arguments)
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whatever the daemon writes to may be gone before this process is.
    output = os.open(options.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    if not guard(Place(options.daemon, options.address, options.master), options.folder):
        return EXIT_LOCKED
    log.info("Master %r: its guardian leaves", options.master)
    return 0


if __name__ == "__main__":
    sys.exit(main())
