"""The client without its sockets: requests and their answers, runs, reconnection. Both clients, blocking and asyncio,
and the simulation run this same code.

What is not answered was lost with its connection, or is on its way over a slow line, where repeating it would delay
everything else ever more. Connections keep the order of messages. So a small ping is sent after it: when that is
answered and the other is not, it was lost, and is sent again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from taskmaster.bus import codec, sockets, topics
from taskmaster.bus import messages as m
from taskmaster.bus.errors import ProtocolError, TaskMasterError, UnknownMaster, from_code
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import Buffer
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.runcore import RunCore

__all__ = ["ClientCore", "Request"]

log = logging.getLogger("taskmaster")

#: Seconds after which an unanswered request is asked after.
OVERDUE_SECONDS = 2.0
#: While nothing is heard at all, the time between two pings doubles up to this.
PING_LONGEST_SECONDS = 30.0
#: Seconds of silence after which the daemon is said to be away. It repeats a beacon for each followed run every second.
SILENT_SECONDS = 5.0


class Request:
    """A question to the daemon. ``reply`` or ``error`` is set when the answer has come."""

    __slots__ = ("error", "frames", "is_probe", "message", "reply", "run_sent_to", "sent_at", "sent_before")

    def __init__(self, message: m.ClientMessage, frames: Sequence[Buffer]) -> None:
        self.message = message
        self.frames = frames
        self.sent_at = 0.0
        #: requests with this number, or a higher one, were sent after it
        self.sent_before = 0
        #: a ping that asks after others: it is not repeated itself
        self.is_probe = False
        #: of a ping about a run: tasks below had been sent
        self.run_sent_to = 0
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
        #: the runs that are open here, each perhaps several times (by its writer and a reader, say), by their numbers
        self.runs: dict[int, list[RunCore]] = {}
        self.alarms: deque[m.Alarm] = deque(maxlen=100)
        self.epoch = 0
        self.last_heard = 0.0
        self.dropped = 0
        self._requests: dict[int, Request] = {}
        self._next_id = 1
        #: requests made by a run itself (for a page, after a restart) → that run
        self._of_runs: dict[int, RunCore] = {}
        #: who follows which topic
        self._followers: dict[bytes, list[RunCore]] = {}
        #: topics of which something has been heard
        self._confirmed: set[bytes] = set()
        self._said_away = False
        #: pings with lower numbers were sent before the run's tasks were sent again: what they say of those is old
        self._sent_again_before: dict[RunCore, int] = {}
        self._next_probe = 0.0
        self._probed_at = 0.0
        self._probe_pause = OVERDUE_SECONDS
        #: called when there is something to send though nobody has sent for a while
        self.on_outbox: Callable[[], None] = lambda: None
        self._control = codec.daemon_decoder()
        self._publication = codec.publication_decoder()

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, message: m.ClientMessage, now: float, frames: Sequence[Buffer] = ()) -> Request:
        """Send a request; its ``id`` is filled in here."""
        message.id = self._next_id  # type: ignore[union-attr]
        self._next_id += 1
        request = Request(message, frames)
        self._transmit(request, now)  # first: one that is too large for a message is not to be repeated
        self._requests[message.id] = request  # type: ignore[union-attr]
        return request

    def describe(self, now: float) -> Request:
        """Ask the daemon who it is."""
        return self.request(m.Describe(0, m.PROTOCOL_VERSION), now)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for the answer any more: it is not asked again."""
        self._requests.pop(request.message.id, None)  # type: ignore[union-attr]

    def _transmit(self, request: Request, now: float) -> None:
        request.sent_at = now
        request.sent_before = self._next_id
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
        limit = self.described.max_message if self.described is not None else 0
        run = RunCore(
            opened,
            schema,
            write=write,
            since=start,
            code=info.code,
            max_message=limit or sockets.MAX_MESSAGE,
            send=self.outbox.append,
            ask=self._replay,
        )
        others = self.runs.setdefault(run.id, [])
        for other in others:
            other.on_writer(opened.writer)
        others.append(run)
        self._follow(run)
        return run

    def all_runs(self) -> list[RunCore]:
        """Every run that is open here, as often as it is."""
        return [run for same in self.runs.values() for run in same]

    def _follow(self, run: RunCore) -> None:
        """Subscribe to what the run needs, which is another topic once it is not the only one that writes."""
        topic, former = run.topic, run.followed
        if topic == former:
            return
        run.followed = topic
        followers = self._followers.setdefault(topic, [])
        if not followers:
            self.subscriptions.append((True, topic))
        followers.append(run)
        if former is not None:
            self._unfollow(run, former)

    def _unfollow(self, run: RunCore, topic: bytes) -> None:
        followers = self._followers.get(topic, [])
        if run in followers:
            followers.remove(run)
            if not followers:
                del self._followers[topic]
                self._confirmed.discard(topic)
                self.subscriptions.append((False, topic))

    def is_following(self, run: RunCore) -> bool:
        """Whether the subscription to a run is known to hold: nothing published from now on escapes it."""
        return run.followed in self._confirmed

    def forget(self, run: RunCore) -> None:
        """Stop following a run."""
        same = self.runs.get(run.id, [])
        if run in same:
            same.remove(run)
            self._sent_again_before.pop(run, None)
            if not same:
                del self.runs[run.id]
            if run.followed is not None:
                self._unfollow(run, run.followed)
        run.on_left()

    def give_up(self, run: RunCore, now: float) -> None:
        """Cancel what is open of a run, close it and leave it, without waiting for what the daemon says to that."""
        run.flush(now)
        self.request(m.Cancel(0, run.id, ((0, run.next_index),)), now)
        self.request(m.Close(0, run.id, run.writer), now)
        self.forget(run)

    def _replay(self, run: RunCore, message: m.Replay) -> None:
        self.request(message, self.last_heard)
        self._of_runs[message.id] = run
        self.on_outbox()

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
            for run in self.runs.get(message.run, ()):
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
            run = self._of_runs.pop(refused.id, None)
            error = from_code(refused.code, refused.message)
            if run is not None:
                run.on_failed(error)
            if request is not None:
                request.error = error
        elif refused.run:
            for run in self.runs.get(refused.run, ()):
                if run.writer == refused.writer:
                    run.on_refused(refused, now)
        else:
            self._drop(ProtocolError(refused.message))

    def _on_page(self, page: m.Page, frames: Sequence[bytes]) -> None:
        self._requests.pop(page.id, None)
        run = self._of_runs.pop(page.id, None)
        if run is None or run not in self.runs.get(page.run, ()):
            return  # it was left meanwhile
        if sum(head.frames for head in page.events) != len(frames):
            raise ProtocolError("a page's frames do not fit its events")
        run.on_page(page, _portion(page.events, frames))

    def on_publication(self, frames: Sequence[bytes], now: float) -> None:
        """A message on the results socket."""
        try:
            if len(frames) < 2:
                raise ProtocolError("a publication without a header, or of too many frames")
            message = self._publication.decode(frames[1])
            followers = self._followers.get(frames[0], ())
            if isinstance(message, m.Events):
                _on_events(followers, message, frames[2:], now)
        except ProtocolError as error:
            self._drop(error)
            return
        self._heard(now)
        if isinstance(message, m.Alarm):
            self.alarms.append(message)
            log.warning("%s", message.message)
        elif followers:
            self._on_topic(frames[0], message, now)

    def _on_topic(self, topic: bytes, message: m.Events | m.Beacon | m.Gone, now: float) -> None:
        self._confirmed.add(topic)
        self._on_epoch(message.epoch, now)
        if not isinstance(message, m.Events):
            for run in tuple(self._followers[topic]):
                if isinstance(message, m.Beacon):
                    run.on_end(message.next_seq)
                else:
                    run.on_gone()
                    self._unfollow(run, topic)

    # -- reconnection -------------------------------------------------------------------------------------------------

    def _on_epoch(self, epoch: int, now: float) -> None:
        """Notice that the daemon was restarted: ask where its journal stands, then send again what it lacks."""
        if epoch == self.epoch:
            return
        restarted, self.epoch = self.epoch != 0, epoch
        if restarted:
            for run in self.all_runs():
                self._ping(run, now)

    def _ping(self, run: RunCore, now: float) -> Request:
        request = self.request(m.Ping(0, run.id, run.acknowledged, run.next_seq), now)
        request.run_sent_to = run.sent_to
        self._of_runs[request.message.id] = run  # type: ignore[union-attr]
        return request

    def _on_pong(self, pong: m.Pong, request: Request | None, now: float) -> None:
        self._on_epoch(pong.epoch, now)
        run = self._of_runs.pop(pong.id, None)
        if request is None or not isinstance(request.message, m.Ping):
            return
        is_new = run is not None and pong.id >= self._sent_again_before.get(run, 0)
        if run is not None and is_new and run.on_pong(request.message, pong, request.run_sent_to, now):
            self._sent_again_before[run] = self._next_id
        self._send_lost(pong.id, now, at_once=run is not None and not request.is_probe)

    def _send_lost(self, ping: int, now: float, *, at_once: bool) -> None:
        """What was sent before that ping, which has been answered, and has no answer itself, is lost.

        A page of results may come a moment later than its turn; but none does from a daemon that has ended meanwhile.
        """
        for number, request in list(self._requests.items()):
            if request.is_probe:
                if number < ping:
                    del self._requests[number]
                    self._of_runs.pop(number, None)
            elif request.sent_before <= ping and (at_once or now - request.sent_at > OVERDUE_SECONDS):
                self._transmit(request, now)

    def _probe(self, now: float) -> None:
        """Ask after what has not been answered for too long."""
        if now < self._next_probe:
            return
        overdue = [run for run in self.all_runs() if run.is_overdue(now)]
        for run in overdue:
            self._ping(run, now).is_probe = True
        if not overdue:
            waiting = (request for request in self._requests.values() if not request.is_probe)
            if not any(now - request.sent_at > OVERDUE_SECONDS for request in waiting):
                return
            self.request(m.Ping(0), now).is_probe = True
        heard = self.last_heard >= self._probed_at
        self._probe_pause = OVERDUE_SECONDS if heard else min(2 * self._probe_pause, PING_LONGEST_SECONDS)
        self._probed_at, self._next_probe = now, now + self._probe_pause

    def on_tick(self, now: float) -> None:
        """Once in a while: ask after what was not answered, and say when nobody seems to be there."""
        self._probe(now)
        runs = self.all_runs()
        for run in runs:
            run.on_tick(now)
            if run.followed is not None:
                self._follow(run)
        waiting = self._requests or any(run.open_tasks or not run.is_settled for run in runs)
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
        if self._probe_pause > OVERDUE_SECONDS:  # it is back
            self._probe_pause = OVERDUE_SECONDS
            self._next_probe = now
        if self._said_away:
            self._said_away = False
            log.warning("the daemon at %s is back", self.address)

    def _drop(self, error: ProtocolError) -> None:
        self.dropped += 1
        log.warning("dropped a message of the daemon's: %s", error)


def _on_events(followers: Sequence[RunCore], message: m.Events, frames: Sequence[bytes], now: float) -> None:
    if sum(head.frames for head in message.events) != len(frames):
        raise ProtocolError("a publication's frames do not fit its events")
    for run in tuple(followers):
        run.on_ack(message.next_index, message.writer, now)
        for head, own in zip(message.events, _portion(message.events, frames)):
            run.on_event(head, own)


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
