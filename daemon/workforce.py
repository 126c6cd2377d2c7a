"""Who works for which Master: what workers and their hosts say goes to the Master it is about. Sans-I/O, see `core`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from taskmaster.bus import messages as m
from taskmaster.bus.errors import Full, NotAllowed, TaskMasterError, UnknownMaster, VersionMismatch
from taskmaster.bus.table import Buffer, Table
from taskmaster.bus.text import did_you_mean_or, shortened
from taskmaster.daemon.effects import Effects, Sender, ToWorker
from taskmaster.daemon.leases import NOTHING, Started, Worker
from taskmaster.daemon.master import Master
from taskmaster.daemon.roles import LOCAL, Peer, require_work
from taskmaster.daemon.series import SeriesBook

__all__ = ["LEAST_SILENCE_SECONDS", "MOST_WORKERS", "SAY_HELLO", "Workforce", "as_seen_by", "known_master"]

#: Workers of the daemon's own that have ended and are remembered: a hello does not take longer than so many deaths.
_DEPARTED = 1024
#: Guardians of one key, or of the daemon's own user, that are remembered: a Master has one on this machine, and perhaps
#: some on others.
_GUARDIANS = 256
#: Workers of one key at a time, of all Masters together: more than a laboratory's machines have processors. Each takes
#: some kilobytes here, and one that falls silent is there for a while yet.
MOST_WORKERS = 16_384
#: Characters of how a worker was lost, and of what kind that was: each task that fails by it bears them.
_LONGEST_REASON, _LONGEST_KIND = 500, 200
#: A guardian says that it is there every second; one that is silent for less than this is busy.
LEAST_SILENCE_SECONDS = 6.0
_ALIVE = m.Alive()
SAY_HELLO = m.Refused(m.HELLO, "this daemon does not know you (any more): say hello")


@dataclass
class _Guardian:
    """Who looks after the heads of a Master; of None, if it was refused."""

    master: Master | None
    hello: m.GuardianHello
    #: when it was heard of last, monotonic
    heard: float
    #: that it is silent was told
    is_told: bool = False
    peer: Peer = LOCAL


class Workforce:
    """The workers of all Masters, by their tokens and by the connections they talk on."""

    def __init__(self, masters: Mapping[str, Master], series: SeriesBook) -> None:
        self._masters = masters
        self._series = series
        #: tokens of the workers that the daemon has started itself, and of those that have ended the latest ones
        self._local: set[str] = set()
        self._departed: deque[str] = deque(maxlen=_DEPARTED)
        #: connection → Master and token of the worker that said hello on it
        self._worker_at: dict[bytes, tuple[Master, str]] = {}
        #: whose key a worker from the network came with, by its token; and how many workers each key has
        self._peers: dict[str, Peer] = {}
        self._workers_of: Counter[str] = Counter()
        #: guardians by their connections, the latest last
        self._guardian_at: dict[bytes, _Guardian] = {}
        #: told of what somebody may not say
        self.denied: Callable[[Sender, m.WorkerMessage, NotAllowed, Effects], None] = lambda *said: None

    def hired(self, token: str) -> None:
        """The daemon has started a worker of its own."""
        self._local.add(token)

    def departed(self, token: str, kind: str, reason: str, started: Started | None, out: Effects) -> None:
        """A worker of the daemon's own has ended. What it had said before and is still on the way is not heeded."""
        self._local.discard(token)
        self._departed.append(token)
        self.lost(token, kind, reason, started, out)

    def forget_former(self) -> None:
        """Once in a while: let go of connections that workers have had before, and of those of workers that are gone.

        What comes by them is answered as a stranger's is, whether they are remembered or not.
        """
        for address, (master, token) in list(self._worker_at.items()):
            worker = master.workers.get(token)
            if worker is None or worker.address != address:
                del self._worker_at[address]
        there = {token for master in self._masters.values() for token in master.workers}
        for token in self._peers.keys() - there:
            self._disown(token)

    def _own(self, token: str, peer: Peer) -> None:
        """A worker came with a key."""
        self._workers_of[peer.name] += token not in self._peers
        self._peers[token] = peer

    def _disown(self, token: str) -> None:
        """It is gone."""
        peer = self._peers.pop(token, None)
        if peer is not None:
            self._workers_of[peer.name] -= 1
            if not self._workers_of[peer.name]:
                del self._workers_of[peer.name]

    @property
    def addresses(self) -> Collection[bytes]:
        """The connections by which workers have said hello, those of the latest seconds that are gone included."""
        return self._worker_at.keys()

    def on_worker(
        self,
        sender: Sender,
        message: m.WorkerMessage,
        table: Table | None,
        times: Buffer | None,
        now: float,
        out: Effects,
    ) -> None:
        """A worker's or a worker host's message."""
        if not sender.peer.is_local and not self._admits(sender, message, out):
            return
        if isinstance(message, m.WorkerHello):
            self._hello(sender, message, now, out)
        elif isinstance(message, m.Heartbeat):
            self._heartbeat(sender, message, now, out)
        elif isinstance(message, (m.WorkerLost, m.WorkerFailed, m.Leave)):
            master, worker = self._find(message.token)
            if isinstance(message, m.WorkerLost):
                for each in self._masters.values():
                    each.heads.on_gone(message.token)
            if master is not None and worker is not None:
                self._farewell(master, worker, message, out)
        elif isinstance(message, m.GuardianHello):
            self._guardian(sender, message, now, out)
        elif isinstance(message, m.Guarded):
            self._guarded(sender, message, out)
        elif not isinstance(message, (m.Returned, m.Several)):  # these are for `daemon.handover` and `daemon.intake`
            self._at_work(sender, message, table, times, now, out)

    def _admits(self, sender: Sender, message: m.WorkerMessage, out: Effects) -> bool:
        """Whether somebody from the network may say this; they are told if not.

        Of a worker, its own key's owner speaks alone: whoever knows the token of another's is not heard, nor whoever
        comes by the routing id that another's connection had.
        """
        peer = sender.peer
        try:
            if isinstance(message, (m.WorkerHello, m.GuardianHello, m.Guarded)):
                require_work(peer, message.master)
                self._require_elsewhere(message.master)
            else:
                require_work(peer, None)
            for token in self._spoken_of(sender, message):
                if (self._owner(token) or peer).name != peer.name:
                    raise NotAllowed(f"key {peer.name!r} is not that of worker {token!r}")
        except NotAllowed as error:
            self.denied(sender, message, error, out)
            out.to_workers.append(ToWorker(sender.address, m.Refused(error.code, str(error))))
            return False
        return True

    def _require_elsewhere(self, name: str) -> None:
        """Raise NotAllowed for an instrument whose heads nobody has to do with who comes from the network."""
        master = self._masters.get(name)
        if master is not None and master.spec.is_guarded_here:
            raise NotAllowed(
                f"the heads of Master {name!r} have their processes on the daemon's machine; where they are to be on "
                'another, its configuration says processes = "elsewhere"'
            )

    def _require_room(self, token: str, peer: Peer) -> None:
        """Raise Full where one key would have too many workers."""
        if self._workers_of[peer.name] < MOST_WORKERS or self._find(token)[1] is not None:
            return
        raise Full(
            f"key {peer.name!r} has {MOST_WORKERS} workers here, and one may have no more; give those of another "
            "machine a key of their own"
        )

    def _spoken_of(self, sender: Sender, message: m.WorkerMessage) -> tuple[str, ...]:
        """The workers that a message is about: by their tokens, or by the connection that it came by."""
        if isinstance(message, m.Heartbeat) and message.tokens:
            return message.tokens
        if isinstance(message, (m.WorkerHello, m.WorkerLost, m.WorkerFailed, m.Leave)):
            return (message.token,)
        at_work = self._worker_at.get(sender.address)
        return () if at_work is None else (at_work[1],)

    def _owner(self, token: str) -> Peer | None:
        """Whose worker it is, as far as that is known: of one from before the daemon's start it is not."""
        peer = self._peers.get(token)
        if peer is not None:
            return peer
        _, worker = self._find(token)
        is_ours = token in self._local or (worker is not None and (worker.local or worker.address))
        return LOCAL if is_ours else None

    def _guardian_by(self, sender: Sender) -> _Guardian | None:
        """The guardian whose connection it is; None also where another's was by that routing id before."""
        guardian = self._guardian_at.get(sender.address)
        return guardian if guardian is not None and guardian.peer.name == sender.peer.name else None

    def dismiss(self, is_out: Callable[[Peer], bool], out: Effects) -> None:
        """The workers of these peers are none any more: what they were evaluating is lost."""
        for token, peer in list(self._peers.items()):
            if is_out(peer):
                self._disown(token)
                self.lost(token, "WorkerLost", f"the key {peer.name!r} of its worker was revoked", None, out)
        for address, guardian in list(self._guardian_at.items()):
            if is_out(guardian.peer):
                del self._guardian_at[address]

    def _hello(self, sender: Sender, hello: m.WorkerHello, now: float, out: Effects) -> None:
        if hello.token in self._departed:
            return  # it would pass for a worker from elsewhere, and be given tasks until its silence is noticed
        try:
            _require_version(hello.version, "worker")
            master = known_master(self._masters, hello.master)
            if master.requests:
                raise NotAllowed(f"Master {hello.master!r} is answered by people; a worker has nothing to do there")
            if master.heads:
                master.heads.require_free(hello.head, hello.token, now)
            if not sender.peer.is_local:
                self._require_room(hello.token, sender.peer)
        except TaskMasterError as error:
            said = str(as_seen_by(sender.peer, error))
            out.to_workers.append(ToWorker(sender.address, m.Refused(error.code, said)))
            return
        self._worker_at[sender.address] = (master, hello.token)
        if not sender.peer.is_local:
            self._own(hello.token, sender.peer)
        worker = master.on_hello(hello, sender.address, local=hello.token in self._local, now=now, out=out)
        master.heads.entrust(worker, sender.peer.name)

    def _guardian(self, sender: Sender, hello: m.GuardianHello, now: float, out: Effects) -> None:
        """Who hosts the workers of a Master's heads wants to know which these are."""
        self._guardian_at.pop(sender.address, None)
        guardian = self._guardian_at[sender.address] = _Guardian(None, hello, now, peer=sender.peer)
        theirs = [at for at, known in self._guardian_at.items() if known.peer.name == sender.peer.name]
        for at in theirs[:-_GUARDIANS]:
            del self._guardian_at[at]
        try:
            _require_version(hello.version, "guardian")
            master = known_master(self._masters, hello.master)
            master.require_heads()
        except TaskMasterError as error:
            said = str(as_seen_by(sender.peer, error))
            out.to_workers.append(ToWorker(sender.address, m.Refused(error.code, said)))
            return
        guardian.master = master
        out.to_workers.append(ToWorker(sender.address, master.spec.guardian_plan()))

    def _guarded(self, sender: Sender, message: m.Guarded, out: Effects) -> None:
        """A guardian has made a head safe whose worker is gone, or has failed to.

        The daemon's own user needs no hello: what was said while the daemon was away comes before that.
        """
        guardian, master = self._guardian_by(sender), self._masters.get(message.master)
        if not sender.peer.is_local and master is not None:
            try:
                master.heads.require_keeper(message.head, sender.peer.name)
            except NotAllowed as error:  # its word comes too late, perhaps; it has other heads to look after
                self.denied(sender, message, error, out)
                out.to_workers.append(ToWorker(sender.address, m.Refused(m.UNHEEDED, str(error))))
                return
        if master is None or not (sender.peer.is_local or (guardian is not None and guardian.master is master)):
            out.to_workers.append(ToWorker(sender.address, SAY_HELLO))
        else:
            master.heads.on_guarded(message, out)

    def heard(self, master: str, host: str, pid: int) -> float | None:
        """When a guardian of the daemon's own user, which is this process, was heard of last; None: it never was."""
        said = [
            guardian.heard
            for guardian in self._guardian_at.values()
            if guardian.peer.is_local
            and (guardian.hello.master, guardian.hello.host, guardian.hello.pid) == (master, host, pid)
        ]
        return max(said, default=None)

    def on_stall(self, seconds: float) -> None:
        """The daemon itself has not moved for so long."""
        for guardian in self._guardian_at.values():
            guardian.heard += seconds

    def look_at_guardians(self, now: float, out: Effects) -> None:
        """Once in a while: say of one elsewhere that it hangs, while workers of its go on. (Those here are ended.)"""
        for address, guardian in self._guardian_at.items():
            master, hello = guardian.master, guardian.hello
            if master is None or master.spec.is_guarded_here or guardian.is_told:
                continue
            silence = now - guardian.heard
            limit = max(master.spec.lost_after, LEAST_SILENCE_SECONDS)
            alive = (w for w in master.workers.values() if w.host == address and now - w.last_seen < limit)
            if silence > limit and any(alive):
                guardian.is_told = True
                text = (
                    f"the guardian of Master {master.spec.name!r} on {hello.host} (process {hello.pid}) was not heard "
                    f"of for {silence:.0f} s: should one of its workers fail, nobody makes that head safe. End it "
                    "there, and start it again"
                )
                out.alarms.append(m.Alarm("error", master.spec.name, text, out.wall))

    def rest(self) -> list[ToWorker]:
        """What the guardians are told when the daemon stops."""
        return [
            ToWorker(address, m.Rest(stop=not guardian.master.spec.outlives))
            for address, guardian in self._guardian_at.items()
            if guardian.master is not None
        ]

    def _heartbeat(self, sender: Sender, message: m.Heartbeat, now: float, out: Effects) -> None:
        """A host vouches for its workers; or a worker, which names none, for itself and its connection.

        ZeroMQ reconnects without telling either side: what the daemon sends by the former connection is lost. So a
        worker that is heard of by a connection it has not said hello on is asked to, which also brings its leases in
        order.
        """
        guardian = self._guardian_by(sender)
        if guardian is not None:
            guardian.heard, guardian.is_told = now, False
        if guardian is not None and guardian.master is not None:
            out.to_workers.append(ToWorker(sender.address, _ALIVE))
        elif not message.tokens:
            master, token = self._worker_at.get(sender.address, (None, ""))
            worker = master.workers.get(token) if master is not None else None
            if worker is None or worker.address != sender.address:
                out.to_workers.append(ToWorker(sender.address, SAY_HELLO))
            else:
                worker.last_seen = now
                if message.device is not None:
                    worker.on_device(message.device)
                if master is not None and master.heads:
                    out.to_workers.append(ToWorker(sender.address, _ALIVE))
        for token in message.tokens:
            master, worker = self._find(token)
            if master is not None and worker is not None:
                worker.last_seen = now
                if master.heads and guardian is None:  # by another connection, or from before this daemon's start
                    guardian = _Guardian(None, m.GuardianHello(0, master.spec.name, ""), now)
                    out.to_workers.append(ToWorker(sender.address, SAY_HELLO))
                if worker.host != sender.address:
                    worker.host = sender.address
                    master.heads.on_vouched(worker, out)
                out.to_workers += [ToWorker(sender.address, interrupt) for interrupt in worker.interrupts]
                worker.interrupts.clear()

    def _at_work(
        self,
        sender: Sender,
        message: m.Ready | m.Outcome | m.OfHead,
        table: Table | None,
        times: Buffer | None,
        now: float,
        out: Effects,
    ) -> None:
        master, token = self._worker_at.get(sender.address, (None, ""))
        worker = master.workers.get(token) if master is not None else None
        if master is None or worker is None or worker.address != sender.address:
            # Given up meanwhile, or from before this daemon's start: it has to introduce itself (again).
            out.to_workers.append(ToWorker(sender.address, SAY_HELLO))
            return
        worker.last_seen = now
        if isinstance(message, m.Ready):
            master.on_ready(worker)
        elif isinstance(message, m.HeadReport):
            master.on_head(worker, message, out)
        elif isinstance(message, (m.Tripped, m.Polled)):
            master.on_watched(worker, message, now, out)
        elif isinstance(message, m.Checkpoint):
            master.on_checkpoint(worker, message, out)
        elif isinstance(message, m.Reconciled):
            master.on_reconciled(worker, message, table, out)
        elif isinstance(message, m.Outcome):
            master.on_outcome(worker, message, table, times, now, out)
            if token not in master.workers:  # it was leaving, and that was its last
                self._disown(token)
        elif isinstance(message, m.Progress):
            self._series.on_progress(master.spec.name, worker.leases.get(message.lease), message, now)
        elif isinstance(message, m.Samples):
            head = master.heads.of(worker)
            if head is not None:
                name = head.spec.name
                self._series.on_samples(master.spec.name, name, master.spec.monitors.get(name, {}), message, now)

    def _farewell(
        self, master: Master, worker: Worker, message: m.WorkerLost | m.WorkerFailed | m.Leave, out: Effects
    ) -> None:
        if isinstance(message, m.Leave):
            master.on_leave(worker, out)
            if worker.token not in master.workers:
                self._disown(worker.token)
        elif isinstance(message, m.WorkerLost):
            if message.checkpoint is not None:
                master.on_checkpoint(worker, message.checkpoint, out)
            started = Started(message.latest, dict(message.positions)) if message.known else None
            self.lost(worker.token, message.kind, message.reason, started, out, message.since)
        else:
            master.on_unusable(worker, f"{message.kind}: {message.message}", out)
            self.lost(worker.token, message.kind, message.message, NOTHING, out)

    def lost(
        self, token: str, kind: str, reason: str, started: Started | None, out: Effects, since: float = 0.0
    ) -> None:
        """A worker's host (or the daemon, as host of its own) says that it is gone."""
        master, worker = self._find(token)
        if master is not None and worker is not None:
            self._worker_at.pop(worker.address, None)
            self._disown(token)
            kind, reason = shortened(kind, _LONGEST_KIND), shortened(reason, _LONGEST_REASON)
            master.on_lost(worker, kind, reason, started, out, since)

    def stopped(self, token: str, started: Started | None, out: Effects) -> None:
        """The daemon has ended one of its own workers because it stops itself.

        That is no fault of a repeatable task's, so it uses up no attempt.
        """
        master, worker = self._find(token)
        if master is not None and worker is not None:
            blameless = NOTHING if master.spec.repeatable else started
            master.on_lost(worker, "WorkerLost", "the daemon was stopped", blameless, out)

    def _find(self, token: str) -> tuple[Master, Worker] | tuple[None, None]:
        for master in self._masters.values():
            worker = master.workers.get(token)
            if worker is not None:
                return master, worker
        return None, None


class _NoMaster(UnknownMaster):
    """There is no Master of this name."""

    def __init__(self, name: str, masters: Collection[str]) -> None:
        super().__init__(f"this daemon has no Master {name!r}{did_you_mean_or(name, masters, 'it has')}")
        self.name, self.masters = name, masters


def known_master(masters: Mapping[str, Master], name: str) -> Master:
    """The Master of this name; raises UnknownMaster, which says what there is."""
    master = masters.get(name)
    if master is None:
        raise _NoMaster(name, tuple(masters))
    return master


def as_seen_by(peer: Peer, error: TaskMasterError) -> TaskMasterError:
    """An error as it may be told somebody: without the Masters that they may not know of."""
    if isinstance(error, _NoMaster) and peer.is_bounded:
        return _NoMaster(error.name, [name for name in error.masters if peer.sees(name)])
    return error


def _require_version(version: int, who: str) -> None:
    if version != m.PROTOCOL_VERSION:
        raise VersionMismatch(
            f"this daemon speaks version {m.PROTOCOL_VERSION} of the protocol, the {who} version {version}; install "
            "the same release on both sides"
        )
