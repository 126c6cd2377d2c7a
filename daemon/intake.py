"""What comes in at the daemon's sockets: looked at, decoded, and handed to whom it is for. One of a broker's hands.

Bounded by the turn, so that neither socket waits for the other, and a turn fits into memory. With keys, each message is
held against the gate by what ZeroMQ says of its connection, and against what its owner may take; see
:mod:`taskmaster.daemon.gatehouse`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import NotAllowed, ProtocolError
from taskmaster.bus.joining import parts
from taskmaster.bus.onwire import Overlong
from taskmaster.bus.origins import Origins
from taskmaster.bus.table import Buffer, Table
from taskmaster.daemon.bounds import TOKEN_FRAMES, TOKEN_INTERVALS
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Audited, Effects, Reply, Sender, ToWorker
from taskmaster.daemon.gatehouse import Gatehouse
from taskmaster.daemon.handover import Handover
from taskmaster.daemon.roles import LOCAL, Right
from taskmaster.daemon.space import Space
from taskmaster.daemon.workforce import SAY_HELLO

__all__ = ["DRAIN_BYTES", "Intake"]

log = logging.getLogger("taskmaster.daemon")

#: Messages taken from one socket in one turn. Bounds a turn's memory and how long the other sockets wait.
DRAIN_MESSAGES = 512
#: Payload bytes after which a turn takes no more …
DRAIN_BYTES = 64 << 20
#: … of which each of a header counts for so many: decoding makes objects of them …
HEADER_WEIGHT = 16
#: … and tasks, for of those that hold a word each few bytes are many to look at.
DRAIN_ROWS = 256 << 10
#: Bytes of a worker's message that are looked at whoever it is of.
_SHORT = 4 << 10
#: What has the journal grow, beside submissions.
_LASTING = (m.Open, m.NoteAsks, m.NoteWriter, m.Edit)

#: A routing id that its peer has chosen may have been another's, who is still sent what is for them.
_CHOSEN = "chooses a routing id for itself, which no client or worker does"


class Intake:
    """Takes messages from the sockets of clients and of workers."""

    def __init__(
        self,
        control: zmq.Socket[bytes],
        workers: zmq.Socket[bytes],
        core: Core,
        space: Space,
        gatehouse: Gatehouse | None,
        handover: Handover,
    ) -> None:
        self._control, self._workers = control, workers
        self._handover = handover
        self._core = core
        self._space = space
        self._gatehouse = gatehouse
        #: messages that did not fit the protocol
        self.dropped = 0
        #: messages of peers that are not let in (any more)
        self.strangers = 0
        counts = gatehouse is not None
        self._origins = {socket: Origins(socket, counts=counts) for socket in (control, workers)}
        #: how many had been admitted when it was last asked for the next routing ids, and who has yet to answer that
        self._admitted = -1
        #: … when it was looked for the last time but one, and the last time
        self._earlier = self._lately = 0
        self._asked: set[zmq.Socket[bytes]] = set()
        self._client_decoder = codec.client_decoder()
        self._worker_decoder = codec.worker_decoder()
        self._bytes = self._rows = 0

    def begin_turn(self) -> None:
        """A turn's bounds begin anew."""
        self._bytes = self._rows = 0

    def look(self) -> None:
        """Once in a while: see to it that nobody who was admitted holds a routing id that is given next."""
        if self._gatehouse is not None:
            self._earlier, self._lately = self._lately, self._gatehouse.doorkeeper.admitted
        self.look_ahead()

    def look_ahead(self) -> None:
        """The same, where many have been admitted since."""
        if self._gatehouse is not None and not self._asked and self._gatehouse.doorkeeper.admitted != self._admitted:
            self._admitted = self._gatehouse.doorkeeper.admitted
            self._asked = set(self._origins)
            for origins in self._origins.values():
                origins.ask()

    def _on_given(self, socket: zmq.Socket[bytes], given: bytes, gatehouse: Gatehouse, now: float) -> None:
        """This routing id was just given to ourselves."""
        origins = self._origins[socket]
        taken = origins.answered(given, gatehouse.doorkeeper.admitted - self._earlier)
        if taken is None:
            return  # it is asked once more
        if taken:
            silent = not any(peer in origins for peer in taken)
            suspects = gatehouse.bounds.suspect(now)
            ended = gatehouse.end_all(socket, "one has chosen a routing id that is to be given next", silent=silent)
            log.warning(
                "a peer has chosen a routing id that is given soon, which would end the daemon: the %d connections %s "
                "end; kept out are the keys of many that are silent: %s",
                ended,
                "that have said nothing" if silent else "by which it may have come",
                ", ".join(map(repr, suspects)) or "none has many",
            )
        self._asked.discard(socket)
        if not self._asked:
            gatehouse.doorkeeper.make_room()

    def take_from_workers(self, now: float, out: Effects) -> None:
        """What workers have sent, as much of it as a turn takes."""
        self._drain(self._workers, self._on_worker, now, out)

    def take_from_clients(self, now: float, out: Effects) -> None:
        """What clients have sent, as much of it as a turn takes."""
        self._drain(self._control, self._on_client, now, out)

    def _drain(
        self,
        socket: zmq.Socket[bytes],
        handle: Callable[[Sender, list[bytes], float, Effects], None],
        now: float,
        out: Effects,
    ) -> None:
        origins = self._origins[socket]
        for _ in range(DRAIN_MESSAGES):
            peer = LOCAL
            if self._gatehouse is None:
                frames = sockets.receive(socket, origins=origins)
                if frames is None:
                    return
                if frames and frames[0] not in origins:
                    self._note_dropped(_CHOSEN)
                    continue
            else:
                received = sockets.receive_from(socket, origins=origins)
                if received is None:
                    return
                frames, user, origin = received
                if len(frames) == 2 and frames[1] == origins.token:
                    self._on_given(socket, frames[0], self._gatehouse, now)
                    continue
                known = self._gatehouse.gate.peer(user)
                if known is None:
                    self._refuse_stranger(
                        socket, frames, user, self._gatehouse.bears_stranger(user, frames, origin), out
                    )
                    continue
                is_ours = not frames or frames[0] in origins
                is_first = bool(frames) and origins.is_first(frames[0])
                fault = "" if is_ours else _CHOSEN
                if isinstance(frames, Overlong):
                    fault = f"sends a message of {frames.frames:,} frames, of which {codec.MAX_FRAMES:,} are borne"
                    self._gatehouse.bounds.spend(known.name, frames.frames / TOKEN_FRAMES)
                if not self._gatehouse.bears(known, user, frames, origin, fault=fault, is_first=is_first):
                    continue
                if not is_ours:  # of the daemon's own user, whom the gatehouse bears
                    self._note_dropped(_CHOSEN)
                    continue
                peer = known
            try:
                if len(frames) < 2:
                    raise ProtocolError("a message without a header, or of too many frames")
                handle(Sender(frames[0], peer.name, peer, origins.of(frames[0])), frames, now, out)
            except ProtocolError as error:
                self._reject(socket, frames, error)
                if self._gatehouse is not None:
                    self._gatehouse.bounds.charge_nonsense(peer.name)
            if self._bytes > DRAIN_BYTES or self._rows > DRAIN_ROWS:
                return

    def _refuse_stranger(
        self, socket: zmq.Socket[bytes], frames: Sequence[bytes], user: str, is_borne: bool, out: Effects
    ) -> None:
        """A message of somebody whose key was in force when they came, and is not any more; answered if it is borne."""
        self.strangers += 1
        if self.strangers & (self.strangers - 1) == 0:
            log.warning("refused message %d of peers whose keys are not in force any more", self.strangers)
        error = NotAllowed("your key is not in force here any more; ask the daemon's operator")
        origin = self._origins[socket].of(frames[0]) if frames else ""
        self._core.auditor.stranger(user, origin, str(error), out)
        if is_borne and len(frames) >= 2 and socket is self._control:
            refused = m.Refused(error.code, str(error), codec.request_id(frames[1]))
            out.replies.append(Reply(frames[0], refused))

    def _on_client(self, sender: Sender, frames: list[bytes], now: float, out: Effects) -> None:
        self._bytes += HEADER_WEIGHT * len(frames[1])
        if self._gatehouse is not None:
            self._gatehouse.bounds.charge_header(sender.user, len(frames[1]))
        message = self._client_decoder.decode(frames[1])
        table: Table | None = None
        if len(frames) > 2 or isinstance(message, m.Submit):
            layout = getattr(message, "layout", None)
            table = codec.table_of(layout, message.n if isinstance(message, m.Submit) else 1, frames[2:])
            self._count(table)
        self._charge(message, sender.user)
        size = len(frames[1]) + (table.nbytes if table is not None else 0)
        user = "" if sender.peer.is_local else sender.user
        if not self._has_room(message, size, user):
            self._core.refuse(sender, message, self._space.error(user), out)
            return
        before = len(out.records)
        self._core.on_client(sender, message, table, out)
        records = out.records[before:]
        if records:  # else it was refused, or changes nothing
            is_refused = all(isinstance(record, Audited) for record in records)
            self._space.take(0 if is_refused else size, len(records), user)

    def _charge(self, message: m.ClientMessage, user: str) -> None:
        """Have paid what carrying a message out costs."""
        stretches = len(message.intervals or ()) if isinstance(message, (m.Cancel, m.Approve, m.Reject)) else 0
        self._rows += stretches
        if self._gatehouse is not None:
            self._gatehouse.bounds.charge(user, message)
            self._gatehouse.bounds.spend(user, stretches / TOKEN_INTERVALS)

    def _has_room(self, message: m.ClientMessage, size: int, user: str) -> bool:
        """Whether there is room on the disk for what a message leaves there."""
        if isinstance(message, m.Submit):
            return self._space.admits(size, user)
        return not isinstance(message, _LASTING) or self._space.bears(size, user)

    def _on_worker(self, sender: Sender, frames: list[bytes], now: float, out: Effects) -> None:
        self._bytes += HEADER_WEIGHT * len(frames[1])
        if self._gatehouse is not None:
            self._gatehouse.bounds.charge_header(sender.user, len(frames[1]))
        if len(frames[1]) > _SHORT and not (sender.peer.is_local or sender.peer.may(Right.WORK)):
            raise ProtocolError("a long message of somebody who is no worker")
        message = self._worker_decoder.decode(frames[1])
        if isinstance(message, m.Several):
            self._on_several(sender, message, frames, now, out)
        else:
            self._on_message(sender, message, frames, now, out)

    def _on_several(self, sender: Sender, message: m.Several, frames: list[bytes], now: float, out: Effects) -> None:
        """Each as if it had come by itself, and paid for so: what one is not costs the others nothing."""
        for part in parts(message, frames[2:]):
            if self._gatehouse is not None:
                self._gatehouse.bounds.spend(sender.user, 1)
            try:
                one = self._worker_decoder.decode(part[0])
                if isinstance(one, m.Several):
                    raise ProtocolError("several messages within several")
                self._on_message(sender, one, [frames[0], *part], now, out)
            except ProtocolError as error:
                self._reject(self._workers, frames, error)
                if self._gatehouse is not None:
                    self._gatehouse.bounds.charge_nonsense(sender.user)

    def _on_message(
        self, sender: Sender, message: m.WorkerMessage, frames: Sequence[Any], now: float, out: Effects
    ) -> None:
        if self._gatehouse is not None:
            self._gatehouse.bounds.charge(sender.user, message)
            if isinstance(message, m.Heartbeat):
                self._gatehouse.bounds.charge_lookups(sender.user, len(message.tokens))
        table: Table | None = None
        times: Buffer | None = None
        if isinstance(message, m.Outcome):
            behind: Sequence[Any] = frames[2:]
            if message.segment is not None:
                taken = self._handover.take(sender, message.segment)
                if taken is None:
                    out.to_workers.append(ToWorker(sender.address, SAY_HELLO))
                    return
                behind = taken
            head = m.EventHead(
                0, message.n, "done", 0, len(behind), message.outputs, message.errors, timed=message.timed
            )
            table, times, _ = codec.event_tables(head, behind)
            self._count(table)
        elif isinstance(message, m.Reconciled) and message.layout is not None:
            table = codec.table_of(message.layout, 1, frames[2:])
            self._count(table)
        elif len(frames) > 2:
            raise ProtocolError("frames that no layout speaks of")
        if isinstance(message, m.Returned):
            self._handover.on_returned(sender, message)
            return
        if isinstance(message, m.WorkerHello):
            self._handover.on_hello(sender, message)
        if isinstance(message, (m.Progress, m.Samples)) and not self._space.room:
            self._core.series.dropped += 1  # what room there is, is for outcomes
            return
        self._core.workforce.on_worker(sender, message, table, times, now, out)

    def _count(self, table: Table | None) -> None:
        if table is not None:
            self._bytes += table.nbytes
            self._rows += table.n

    def _reject(self, socket: zmq.Socket[bytes], frames: Sequence[bytes], error: ProtocolError) -> None:
        """A message that does not fit the protocol: counted, and answered if there is somebody to answer."""
        self._note_dropped(str(error))
        if len(frames) >= 2:
            number = codec.request_id(frames[1]) if socket is self._control else 0
            sockets.send(socket, [frames[0], codec.encode(m.Refused(error.code, str(error), number))])

    def _note_dropped(self, why: str) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            log.warning("dropped message %d: %s", self.dropped, why)
