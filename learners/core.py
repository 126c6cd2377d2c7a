"""The client without its sockets: requests and their answers, runs, reconnection. Both clients, blocking and asyncio,
and the simulation run this same code.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from taskmaster.bus import codec, topics
from taskmaster.bus import messages as m
from taskmaster.bus.errors import ProtocolError, TaskMasterError, UnknownMaster, from_code
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import Buffer
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.runcore import RunCore

__all__ = ["ClientCore", "Request"]

log = logging.getLogger("taskmaster")

#: Seconds after which an unanswered request is sent again.
RESEND_SECONDS = 2.0
#: Seconds of silence after which the daemon is said to be away. It repeats a beacon for each followed run every second.
SILENT_SECONDS = 5.0


class Request:
    """A question to the daemon. ``reply`` or ``error`` is set when the answer has come."""

    __slots__ = ("error", "frames", "message", "reply", "sent_at")

    def __init__(self, message: m.ClientMessage, frames: Sequence[Buffer]) -> None:
        self.message = message
        self.frames = frames
        self.sent_at = 0.0
        self.reply: m.DaemonMessage | None = None
        self.error: TaskMasterError | None = None

    @property
    def answered(self) -> bool:
        return self.reply is not None or self.error is not None


class ClientCore:
    """State of one client's connection.

    ``outbox`` collects messages for the control socket, ``subscriptions`` topics to subscribe to (True) or to leave.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.outbox: deque[list[Buffer]] = deque()
        self.subscriptions: deque[tuple[bool, bytes]] = deque()
        self.described: m.Described | None = None
        self.runs: dict[int, RunCore] = {}
        self.alarms: deque[m.Alarm] = deque(maxlen=100)
        self.epoch = 0
        self.last_heard = 0.0
        self.dropped = 0
        self._requests: dict[int, Request] = {}
        self._next_id = 1
        #: request → run whose page it asked for
        self._replays: dict[int, int] = {}
        #: run → the topic it is followed by
        self._topics: dict[int, bytes] = {}
        self._confirmed: set[int] = set()
        self._said_away = False
        self._control = codec.daemon_decoder()
        self._publication = codec.publication_decoder()

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, message: m.ClientMessage, now: float, frames: Sequence[Buffer] = ()) -> Request:
        """Send a request; its ``id`` is filled in here."""
        message.id = self._next_id  # type: ignore[union-attr]
        self._next_id += 1
        request = Request(message, frames)
        self._requests[message.id] = request  # type: ignore[union-attr]
        self._transmit(request, now)
        return request

    def describe(self, now: float) -> Request:
        """Ask the daemon who it is."""
        return self.request(m.Describe(0, m.PROTOCOL_VERSION), now)

    def _transmit(self, request: Request, now: float) -> None:
        request.sent_at = now
        self.outbox.append([codec.encode(request.message), *request.frames])

    # -- runs ---------------------------------------------------------------------------------------------------------

    def master(self, name: str) -> m.MasterInfo:
        """What the daemon said of a Master. Raises UnknownMaster."""
        masters = self.described.masters if self.described is not None else ()
        for info in masters:
            if info.name == name:
                return info
        known = [info.name for info in masters]
        raise UnknownMaster(
            f"the daemon at {self.address} has no Master {name!r}{did_you_mean_or(name, known, 'it has')}"
        )

    def opened(self, opened: m.Opened, *, write: bool, since: str) -> RunCore:
        """A run that the daemon has opened: start following it."""
        info = self.master(opened.master)
        schema = Schema(info.parameters, opened.master)
        start = opened.next_seq if since == "now" else 0
        run = RunCore(
            opened, schema, write=write, since=start, code=info.code, send=self.outbox.append, ask=self._replay
        )
        self.runs[run.id] = run
        self._follow(run)
        return run

    def _follow(self, run: RunCore) -> None:
        """Subscribe to what the run needs, which is another topic once it is not the only one that writes."""
        topic, former = self._topic(run), self._topics.get(run.id)
        if topic != former:
            self._topics[run.id] = topic
            self.subscriptions.append((True, topic))
            if former is not None:
                self.subscriptions.append((False, former))

    def is_following(self, run: RunCore) -> bool:
        """Whether the subscription to a run is known to hold: nothing published from now on escapes it."""
        return run.id in self._confirmed

    def forget(self, run: RunCore) -> None:
        """Stop following a run."""
        if self.runs.pop(run.id, None) is not None:
            self._confirmed.discard(run.id)
            self.subscriptions.append((False, self._topics.pop(run.id)))

    @staticmethod
    def _topic(run: RunCore) -> bytes:
        name = topics.with_inputs_topic if run.wants_inputs else topics.events_topic
        return name(run.master, run.id)

    def _replay(self, message: m.Replay) -> None:
        request = self.request(message, self.last_heard)
        request.sent_at = self.last_heard
        self._replays[message.id] = message.run

    # -- what the daemon says -----------------------------------------------------------------------------------------

    def on_control(self, frames: Sequence[bytes], now: float) -> None:
        """A message on the control socket. One that does not fit the protocol is dropped and counted."""
        try:
            message = self._control.decode(frames[0] if frames else b"")
            if isinstance(message, m.Page):
                self._on_page(message, frames[1:])
        except ProtocolError as error:
            self._drop(error)
            return
        self._heard(now)
        if isinstance(message, m.Ack):
            run = self.runs.get(message.run)
            if run is not None:
                run.on_ack(message.next_index, message.writer, now)
        elif isinstance(message, m.Refused):
            self._on_refused(message, now)
        elif not isinstance(message, m.Page):
            self._on_reply(message, now)

    def _on_reply(self, message: m.DaemonMessage, now: float) -> None:
        request = self._requests.pop(message.id, None)  # type: ignore[union-attr]
        if isinstance(message, m.Pong):
            self._on_pong(message, request, now)
        if isinstance(message, m.Described):
            if self.described is None:
                self.subscriptions.append((True, topics.ALARMS))
            self.described = message
            self._on_epoch(message.epoch, now)
        if request is not None:
            request.reply = message

    def _on_refused(self, refused: m.Refused, now: float) -> None:
        if refused.id:
            request = self._requests.pop(refused.id, None)
            run = self.runs.get(self._replays.pop(refused.id, 0))
            error = from_code(refused.code, refused.message)
            if run is not None:
                run.on_page_failed(error)
            if request is not None:
                request.error = error
        elif refused.run in self.runs:
            self.runs[refused.run].on_refused(refused, now)
        elif not refused.run:
            self._drop(ProtocolError(refused.message))

    def _on_page(self, page: m.Page, frames: Sequence[bytes]) -> None:
        self._requests.pop(page.id, None)
        run = self.runs.get(self._replays.pop(page.id, 0))
        if run is None:
            return
        if sum(head.frames for head in page.events) != len(frames):
            raise ProtocolError("a page's frames do not fit its events")
        run.on_page(page, _portion(page.events, frames))

    def on_publication(self, frames: Sequence[bytes], now: float) -> None:
        """A message on the results socket."""
        try:
            if len(frames) < 2:
                raise ProtocolError("a publication without a header, or of too many frames")
            message = self._publication.decode(frames[1])
            if isinstance(message, m.Events):
                self._on_events(message, frames[2:], now)
        except ProtocolError as error:
            self._drop(error)
            return
        self._heard(now)
        if isinstance(message, m.Alarm):
            self.alarms.append(message)
            log.warning("%s", message.message)
            return
        run = self.runs.get(message.run)
        if run is None:
            return
        self._confirmed.add(run.id)
        self._on_epoch(message.epoch, now)
        if isinstance(message, m.Beacon):
            run.on_end(message.next_seq)

    def _on_events(self, message: m.Events, frames: Sequence[bytes], now: float) -> None:
        run = self.runs.get(message.run)
        if run is None:
            return
        if sum(head.frames for head in message.events) != len(frames):
            raise ProtocolError("a publication's frames do not fit its events")
        run.on_writer(message.writer)
        for head, own in zip(message.events, _portion(message.events, frames)):
            run.on_event(head, own)
        run.on_ack(message.next_index, message.writer, now)

    # -- reconnection -------------------------------------------------------------------------------------------------

    def _on_epoch(self, epoch: int, now: float) -> None:
        """Notice that the daemon was restarted: ask where its journal stands, then send again what it lacks."""
        if epoch == self.epoch:
            return
        restarted, self.epoch = self.epoch != 0, epoch
        if restarted:
            for run in self.runs.values():
                self._ping(run, now)

    def _ping(self, run: RunCore, now: float) -> None:
        self.request(m.Ping(0, run.id, run.acknowledged, run.next_seq), now)

    def _on_pong(self, pong: m.Pong, request: Request | None, now: float) -> None:
        self._on_epoch(pong.epoch, now)
        if request is None or not isinstance(request.message, m.Ping):
            return
        run = self.runs.get(request.message.run)
        if run is not None:
            run.on_epoch(request.message, pong, now)

    def on_tick(self, now: float) -> None:
        """Once in a while: repeat what was not answered, and say when nobody seems to be there."""
        for request in list(self._requests.values()):
            if now - request.sent_at > RESEND_SECONDS:
                self._transmit(request, now)
        for run in self.runs.values():
            run.resend(now)
            self._follow(run)
        waiting = self._requests or any(run.open_tasks or not run.is_settled for run in self.runs.values())
        if waiting and self.last_heard and now - self.last_heard > SILENT_SECONDS:
            if not self._said_away:
                self._said_away = True
                log.warning(
                    "the daemon at %s does not answer; waiting for it to come back (nothing is lost)", self.address
                )
            if not self._requests:
                self.describe(now)

    def _heard(self, now: float) -> None:
        self.last_heard = now
        if self._said_away:
            self._said_away = False
            log.warning("the daemon at %s is back", self.address)

    def _drop(self, error: ProtocolError) -> None:
        self.dropped += 1
        log.warning("dropped a message of the daemon's: %s", error)


def _portion(heads: Sequence[m.EventHead], frames: Sequence[Buffer]) -> list[Sequence[Buffer]]:
    """The frames of each event."""
    if len(heads) == 1:
        return [frames]
    portions: list[Sequence[Buffer]] = []
    at = 0
    for head in heads:
        portions.append(frames[at : at + head.frames])
        at += head.frames
    return portions
