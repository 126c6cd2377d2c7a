"""The client without its sockets: requests and their answers, runs, reconnection. Both clients, blocking and asyncio,
and the simulation run this same code.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from taskmaster.bus import codec, messages as m, topics
from taskmaster.bus.errors import ProtocolError, TaskMasterError, UnknownMaster, from_code
from taskmaster.bus.fields import Schema
from taskmaster.bus.keys import Credentials
from taskmaster.bus.places import as_reached
from taskmaster.bus.table import Buffer
from taskmaster.bus.text import count, did_you_mean_or
from taskmaster.learners.blocks import MAX_MESSAGE
from taskmaster.learners.requests import Request, Requests
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.series import Following

__all__ = ["ClientCore", "Request"]

log = logging.getLogger("taskmaster")

#: Seconds of silence after which the daemon is said to be away. It repeats a beacon for each followed run every second.
SILENT_SECONDS = 5.0


class ClientCore:
    """State of one client's connection.

    ``outbox`` collects messages for the control socket, ``subscriptions`` topics to subscribe to (True) or to leave.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        self.address = address
        self.credentials = credentials
        self.outbox: deque[list[Buffer]] = deque()
        self.subscriptions: deque[tuple[bool, bytes]] = deque()
        self.described: m.Described | None = None
        #: the runs that are open here, each perhaps several times (by its writer and a reader, say), by their numbers
        self.runs: dict[int, list[RunCore]] = {}
        self.alarms: deque[m.Alarm] = deque(maxlen=100)
        self.epoch = 0
        self.last_heard = 0.0
        self.dropped = 0
        self._now = 0.0
        self._requests = Requests(self.outbox)
        #: how much waits for people, of Masters of which somebody here wants to know; and how many those are, by topic
        self.waiting: dict[str, m.Waiting] = {}
        self._watched: Counter[bytes] = Counter()
        #: who follows which topic
        self._followers: dict[bytes, list[RunCore]] = {}
        #: the same of series in time
        self._series: dict[bytes, list[Following[Any]]] = {}
        #: topics of which something has been heard
        self._confirmed: set[bytes] = set()
        self._said_away = False
        #: since when an answer, a result or an acknowledgement is waited for
        self._waiting_since = 0.0
        #: runs of which something is put off, because the daemon was full
        self._put_off: set[RunCore] = set()
        #: looked at now and then, says of a daemon that has ended for good that it has
        self.obituary: Callable[[], TaskMasterError | None] = lambda: None
        self._died: TaskMasterError | None = None
        self._control = codec.daemon_decoder()
        self._publication = codec.publication_decoder()

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, message: m.ClientMessage, now: float, frames: Sequence[Buffer] = ()) -> Request:
        """Send a request; its ``id`` is filled in here.

        Raises CallerError for one that the daemon could not read, or if it takes none that large.
        """
        if self._died is not None:
            raise self._died
        self._now = max(self._now, now)
        return self._requests.make(message, frames, now, self.max_message)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for the answer any more: ask no further. It may be carried out all the same."""
        self._requests.withdraw(request)

    @property
    def max_message(self) -> int:
        """Bytes that the daemon takes in one message."""
        return (self.described.max_message if self.described is not None else 0) or MAX_MESSAGE

    @property
    def results_address(self) -> str:
        """Where results are published; empty as long as the daemon has not said so."""
        return "" if self.described is None else as_reached(self.described.results, self.address)

    def describe(self, now: float) -> Request:
        """Ask the daemon who it is."""
        return self.request(m.Describe(0, m.PROTOCOL_VERSION), now)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def master(self, name: str) -> m.MasterInfo:
        """What the daemon said of a Master. Raises UnknownMaster."""
        masters = self.described.masters if self.described is not None else ()
        for info in masters:
            if info.name == name:
                return info
        known = [info.name for info in masters]
        raise UnknownMaster(
            f"the daemon at {self.address} has no Master {name!r}{did_you_mean_or(str(name), known, 'it has')}"
        )

    def opened(self, opened: m.Opened, *, write: bool, since: str) -> RunCore:
        """A run that the daemon has opened: start following it."""
        info = self.master(opened.master)
        schema = Schema(info.parameters, opened.master)
        start = opened.next_seq if since == "now" else 0
        run = RunCore(
            opened,
            schema,
            write=write,
            since=start,
            code=info.code,
            calls=info.calls,
            send=self.outbox.append,
            ask=self._ask_for,
            max_message=self.max_message,
            heads=info.heads,
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

    @property
    def is_settled(self) -> bool:
        """Whether all that was put is acknowledged, or will never be."""
        return all(run.is_settled or run.error is not None for run in self.all_runs())

    def unsettled(self) -> str:
        """What was put and not acknowledged, in words; empty if nothing is."""
        open_ = [run for run in self.all_runs() if not run.is_settled and run.error is None]
        return ", ".join(
            f"{count(run.next_index - run.acknowledged, 'task')} of run {run.name!r} (Master {run.master!r})"
            for run in open_
        )

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

    def follow_series(self, following: Following[Any]) -> None:
        """Give it what is published of its topic from now on."""
        followers = self._series.setdefault(following.topic, [])
        if not followers:
            self.subscriptions.append((True, following.topic))
        followers.append(following)

    def unfollow_series(self, following: Following[Any]) -> None:
        """Undo :meth:`follow_series`."""
        followers = self._series.get(following.topic, [])
        if following in followers:
            followers.remove(following)
            if not followers:
                del self._series[following.topic]
                self.subscriptions.append((False, following.topic))

    def watch_people(self, master: str) -> None:
        """Keep up with how much of a Master waits for people."""
        topic = topics.people_topic(master)
        self._watched[topic] += 1
        if self._watched[topic] == 1:
            self.subscriptions.append((True, topic))

    def unwatch_people(self, master: str) -> None:
        """Undo :meth:`watch_people`."""
        topic = topics.people_topic(master)
        self._watched[topic] -= 1
        if not self._watched[topic]:
            del self._watched[topic]
            self.waiting.pop(master, None)
            self.subscriptions.append((False, topic))

    def is_following(self, run: RunCore) -> bool:
        """Whether the subscription to a run is known to hold: nothing published from now on escapes it."""
        return run.followed in self._confirmed

    def forget(self, run: RunCore) -> None:
        """Stop following a run."""
        same = self.runs.get(run.id, [])
        if run in same:
            same.remove(run)
            if not same:
                del self.runs[run.id]
            if run.followed is not None:
                self._unfollow(run, run.followed)
        self._requests.withdraw_of(run)
        self._put_off.discard(run)
        run.on_left()

    def give_up(self, run: RunCore, now: float) -> None:
        """Cancel what is open of a run, close it and leave it, without waiting for what the daemon says to that."""
        run.flush(now)
        self.request(m.Cancel(0, run.id, ((0, run.next_index),)), now)
        self.request(m.Close(0, run.id, run.writer), now)
        self.forget(run)

    def _ask_for(self, run: RunCore, message: m.Replay | m.Ping) -> None:
        """Ask something on a run's behalf, in place of what was asked of that kind before."""
        if not self._requests.ask_again(run, message, self._now):
            self._requests.withdraw_of(run, type(message))
            self._requests.make(message, (), self._now, self.max_message, run)

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
            self._on_reply(message, frames[1:], now)

    def _on_reply(self, message: m.DaemonMessage, frames: Sequence[bytes], now: float) -> None:
        request = self._requests.answered(message.id)  # type: ignore[union-attr]
        if isinstance(message, m.Pong):
            self._on_epoch(message.epoch, now)
            if request is not None and request.run is not None and isinstance(request.message, m.Ping):
                request.run.on_pong(request.message, message, now)
        if isinstance(message, m.Described):
            if self.described is None:
                self.subscriptions.append((True, topics.ALARMS))
            before, self.described = self.results_address, message
            self._on_epoch(message.epoch, now)
            if before not in ("", self.results_address):
                self._on_moved(now)
        if request is not None:
            request.reply, request.attached = message, frames

    @property
    def due(self) -> float:
        """When :meth:`on_due` is to be called: something was put off until then. Infinite if nothing was."""
        return min((run.put_off_until for run in self._put_off), default=math.inf)

    def on_due(self, now: float) -> None:
        """Send what was put off until now because the daemon was full."""
        self._now = max(self._now, now)
        for run in [run for run in self._put_off if run.put_off_until <= now]:
            self._put_off.discard(run)
            run.flush(now)

    def _on_refused(self, refused: m.Refused, now: float) -> None:
        if refused.id:
            request = self._requests.answered(refused.id)
            if request is not None:
                request.error = from_code(refused.code, refused.message)
                if request.run is not None:
                    request.run.on_failed(request.error)
        elif refused.run:
            for run in self.runs.get(refused.run, ()):
                if run.writer == refused.writer:
                    run.on_refused(refused, now)
                    if run.put_off_until:
                        self._put_off.add(run)
        else:
            self._drop(ProtocolError(refused.message))

    def _on_page(self, page: m.Page, frames: Sequence[bytes]) -> None:
        if sum(head.frames for head in page.events) != len(frames):
            raise ProtocolError("a page's frames do not fit its events")
        request = self._requests.answered(page.id)
        if request is not None and request.run is not None:
            request.run.on_page(page, _portion(page.events, frames))
        elif request is not None:  # else the run was left meanwhile, or has asked again
            request.reply, request.attached = page, frames

    def on_publication(self, frames: Sequence[bytes], now: float) -> None:
        """A message on the results socket."""
        try:
            if len(frames) < 2:
                raise ProtocolError("a publication without a header, or of too many frames")
            message = self._publication.decode(frames[1])
            followers = self._followers.get(frames[0], ())
            if isinstance(message, m.Events):
                _on_events(followers, message, frames[2:], now)
            elif isinstance(message, (m.SeriesNews, m.Gone)):
                for following in self._series.get(frames[0], ()):
                    following.on_news(message)
        except ProtocolError as error:
            self._drop(error)
            return
        self._heard(now)
        if isinstance(message, m.Alarm):
            self.alarms.append(message)
            log.warning("%s", message.message)
        elif isinstance(message, m.SeriesNews):
            self._on_epoch(message.epoch, now)
        elif isinstance(message, m.Waiting):
            self._on_epoch(message.epoch, now)
            if frames[0] in self._watched:
                self.waiting[message.master] = message
        elif followers:
            self._on_topic(frames[0], message, now)

    def _on_topic(self, topic: bytes, message: m.Events | m.Beacon | m.Gone, now: float) -> None:
        self._confirmed.add(topic)
        self._on_epoch(message.epoch, now)
        if not isinstance(message, m.Events):
            for run in tuple(self._followers[topic]):
                if isinstance(message, m.Beacon):
                    run.on_extent(message.next_index)
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
            self.describe(now)  # it may have another configuration, and publish elsewhere
            for run in self.all_runs():
                run.on_restart()

    def _on_moved(self, now: float) -> None:
        """Results are published elsewhere: what was on its way is lost."""
        self._confirmed.clear()
        self.request(m.Ping(0), now)
        for run in self.all_runs():
            run.on_restart()

    def on_tick(self, now: float) -> None:
        """Once in a while: repeat what was not answered, and say when nobody seems to be there."""
        self._now = max(self._now, now)
        if self._died is None and (died := self.obituary()) is not None:
            self._bury(died)
        if self._died is not None:
            return  # there is nobody to be asked, or waited for
        self._requests.repeat(now)
        runs = self.all_runs()
        for run in runs:
            run.on_tick(now)
            if run.followed is not None:
                self._follow(run)
        # Whoever follows a run, or a series, waits for what others may put.
        waiting = self._requests or self._followers or self._series
        if not waiting:
            self._waiting_since = now
        if waiting and self.last_heard and now - max(self.last_heard, self._waiting_since) > SILENT_SECONDS:
            if not self._said_away:
                self._said_away = True
                log.warning(
                    "the daemon at %s does not answer; waiting for it to come back (nothing is lost)", self.address
                )
            if not self._requests:
                self.describe(now)

    def _bury(self, died: TaskMasterError) -> None:
        """The daemon has ended and does not come back: nobody is to wait for it."""
        self._died = died
        self._requests.fail_all(died)
        for run in self.all_runs():
            run.on_failed(died)
        for following in [one for followers in self._series.values() for one in followers]:
            following.error = died

    def _heard(self, now: float) -> None:
        self.last_heard = self._now = now
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
            run.on_publication(head, own)


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
