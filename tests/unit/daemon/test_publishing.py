"""What subscribers hear, through ZeroMQ's own sockets; and that nobody hears anything before it is on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import zmq
from helpers.heart import Conversation, Heart, spec
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m, sockets, topics
from taskmaster.bus.errors import JournalError
from taskmaster.bus.table import pack_values
from taskmaster.daemon import intake, publishing
from taskmaster.daemon.broker import Broker, Endpoints
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import BlockAppended, EventAppended, Publication, Record
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.master import Master
from taskmaster.daemon.publishing import DRAIN_SUBSCRIPTIONS, PUBLISHED_BYTES, Publisher
from taskmaster.daemon.space import Space
from taskmaster.daemon.supervision import Supervisor

Socket: TypeAlias = "zmq.Socket[bytes]"

PATIENCE_MS = round(1e3 * PATIENCE)
_client = codec.daemon_decoder()
_worker = codec.to_worker_decoder()
_all = codec.publication_decoder()


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    context: zmq.Context[Socket] = zmq.Context()
    yield context
    context.destroy(linger=0)


def heard(socket: Socket) -> list[Any]:
    """What a subscriber has got: of each message the type and its events' frames."""
    messages: list[Any] = []
    while socket.poll(PATIENCE_MS if not messages else 0):
        _, header, *frames = socket.recv_multipart()
        messages.append((_all.decode(header), frames))
    return messages


class Radio:
    """A publisher and a run to tell of."""

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self.context = context
        self.xpub = context.socket(zmq.XPUB)
        self.xpub.bind("inproc://results")
        self.heart = Heart(spec())
        self.run: Conversation = self.heart.open()
        self.publisher = Publisher(self.xpub, self.heart.core)
        self.followers: list[Socket] = []

    def listen(self, topic: bytes) -> Socket:
        """Somebody who has subscribed."""
        socket = self.context.socket(zmq.SUB)
        self.followers.append(socket)
        socket.connect("inproc://results")
        socket.subscribe(topic)
        assert self.xpub.poll(PATIENCE_MS)
        self.publisher.on_subscriptions()
        return socket

    def done(self, values: Sequence[Any], inputs: Sequence[Any], seq: int = 0) -> Publication:
        outputs = pack_values(values)
        head = m.EventHead(seq, outputs.n, "done", seq, len(outputs.frames), outputs.layout)
        return Publication("svm", self.run.run, head, tuple(outputs.frames), (pack_values(inputs),))

    @property
    def topic(self) -> bytes:
        return topics.events_topic("svm", self.run.run)

    @property
    def topic_with_inputs(self) -> bytes:
        return topics.with_inputs_topic("svm", self.run.run)


@pytest.fixture
def radio(context: zmq.Context[Socket]) -> Radio:
    return Radio(context)


def test_a_subscription_is_answered_with_where_the_run_ends(radio: Radio) -> None:
    radio.run.put(1)
    radio.run.cancel()
    ((beacon, _),) = heard(radio.listen(radio.topic))
    assert beacon == m.Beacon(radio.run.run, 1, next_seq=1, next_index=1)


def test_who_wants_inputs_gets_them_and_who_does_not_does_not(radio: Radio) -> None:
    plain, full = radio.listen(radio.topic), radio.listen(radio.topic_with_inputs)
    heard(plain)
    heard(full)
    radio.publisher.publish([radio.done([2.0, 4.0], [1.0, 2.0])])
    ((events, frames),) = heard(plain)
    assert codec.event_tables(events.events[0], frames)[2] is None
    ((events, frames),) = heard(full)
    outputs, _, inputs = codec.event_tables(events.events[0], frames)
    assert inputs is not None
    assert outputs is not None
    assert (outputs.rows(), inputs.rows()) == ([2.0, 4.0], [1.0, 2.0])


def test_an_event_tells_up_to_where_tasks_are_taken_and_from_whom(radio: Radio) -> None:
    radio.run.put(1, 2, 3)
    follower = radio.listen(radio.topic)
    heard(follower)
    radio.publisher.publish([radio.done([2.0], [1.0])])
    ((events, _),) = heard(follower)
    assert (events.next_index, events.writer, events.epoch) == (3, radio.run.writer, 1)


def test_nothing_is_packed_for_nobody(radio: Radio) -> None:
    follower = radio.listen(topics.events_topic("svm", radio.run.run + 1))
    heard(follower)
    radio.publisher.publish([radio.done([2.0], [1.0])])
    radio.publisher.beacons()
    ((gone, _),) = heard(follower)
    assert gone == m.Gone(radio.run.run + 1, 1)


def test_what_is_large_is_announced_and_left_to_a_replay(radio: Radio) -> None:
    follower = radio.listen(radio.topic)
    heard(follower)
    large = "x" * (PUBLISHED_BYTES + 1)
    radio.publisher.publish([radio.done([1.0], [1.0]), radio.done([large], [1.0], 1), radio.done([1.0], [1.0], 2)])
    (events, _), (beacon, _) = heard(follower)
    assert [head.seq for head in events.events] == [0]  # what follows would only show as a gap
    assert isinstance(beacon, m.Beacon)


def test_wordy_failures_are_large_too(radio: Radio) -> None:
    """They lie in the header, which has a limit of its own, and a queue has one in bytes."""
    follower = radio.listen(radio.topic)
    heard(follower)
    errors = tuple(m.TaskError(k, "ValueError", "x" * 2000) for k in range(PUBLISHED_BYTES // 2000))
    failed = m.EventHead(1, len(errors), "done", 1, errors=errors)
    radio.publisher.publish([radio.done([1.0], [1.0]), Publication("svm", radio.run.run, failed, (), ())])
    (events, _), (beacon, _) = heard(follower)
    assert [head.seq for head in events.events] == [0]
    assert isinstance(beacon, m.Beacon)


def test_a_burst_is_cut_off(radio: Radio) -> None:
    follower = radio.listen(radio.topic)
    heard(follower)
    radio.publisher.publish([radio.done([1.0], [1.0], seq) for seq in range(600)])
    (events, frames), (beacon, _) = heard(follower)
    assert len(events.events) == len(frames) == 512
    assert isinstance(beacon, m.Beacon)


def test_followers_of_a_deleted_run_are_told_that_it_is_gone(radio: Radio) -> None:
    follower = radio.listen(radio.topic)
    heard(follower)
    radio.heart.ask(m.Delete(1, radio.run.run), m.Done)
    radio.publisher.publish([radio.done([1.0], [1.0])])  # of its last turn
    radio.publisher.beacons()
    (events, _), (gone, _) = heard(follower)
    assert (events.next_index, events.writer) == (0, 0)
    assert gone == m.Gone(radio.run.run, 1)


def test_who_has_gone_is_told_nothing_more(radio: Radio) -> None:
    follower, other = radio.listen(radio.topic), radio.listen(radio.topic_with_inputs)
    follower.unsubscribe(radio.topic)
    assert radio.xpub.poll(PATIENCE_MS)
    radio.publisher.on_subscriptions()
    heard(other)
    radio.publisher.beacons()
    assert len(heard(other)) == 1
    assert set(radio.publisher._prefixes) == {radio.topic_with_inputs}


def flood(radio: Radio, topic: bytes, count: int) -> None:
    """Somebody who subscribes to far more than there is: ``count`` times ``topic % k``."""
    socket = radio.context.socket(zmq.SUB)
    radio.followers.append(socket)
    socket.sndhwm = radio.xpub.rcvhwm = 0
    socket.connect("inproc://results")
    for k in range(count):
        socket.subscribe(topic % k)
    radio.xpub.poll(PATIENCE_MS)


def test_of_a_flood_of_subscriptions_a_turn_takes_a_share(radio: Radio) -> None:
    flood(radio, b"z%d", 3 * DRAIN_SUBSCRIPTIONS)
    radio.publisher.on_subscriptions()
    assert len(radio.publisher._prefixes) == DRAIN_SUBSCRIPTIONS
    assert radio.xpub.poll(PATIENCE_MS), "the others wait in the socket"


def test_who_comes_after_too_many_is_told_all_the_same(radio: Radio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "TOPICS", 10)
    flood(radio, b"z%d", 20)
    radio.publisher.on_subscriptions()
    follower = radio.listen(radio.topic_with_inputs)
    assert len(radio.publisher._prefixes) == 10
    assert [type(message) for message, _ in heard(follower)] == [m.Beacon]
    radio.publisher.publish([radio.done([2.0], [1.0])])
    radio.publisher.beacons()
    assert [type(message) for message, _ in heard(follower)] == [m.Events, m.Beacon]


def test_topics_of_runs_that_there_are_not_cost_little_and_keep_nobody_waiting(
    radio: Radio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "GONE", 3)
    follower = radio.listen(radio.topic)
    heard(follower)
    vain = radio.listen(b"svm/7/o")
    flood(radio, b"svm/9%d/o", 9)
    flood(radio, b"no-such-%%d/%d/o" % radio.run.run, 9)
    radio.publisher.on_subscriptions()
    sent: list[bytes] = []

    def note(socket: Socket, frames: Sequence[Any]) -> bool:
        sent.append(frames[0])
        return True

    monkeypatch.setattr(sockets, "send", note)
    radio.publisher.beacons()
    assert sent[0] == radio.topic
    assert len(sent) == 1 + 3
    for _ in range(3):
        radio.publisher.beacons()
    assert sent.count(radio.topic) == 4
    assert b"svm/7/o" in sent, "they take turns"
    assert vain.poll(PATIENCE_MS)


def test_everybody_may_hear_alarms(radio: Radio) -> None:
    listener = radio.listen(topics.ALARMS)
    alarm = m.Alarm("error", "svm", "its workers cannot start", 3.0)
    radio.publisher.alarm(alarm)
    ((said, _),) = heard(listener)
    assert said == alarm


# ---------------------------------------------------------------------------------------------------------------------
# The broker's turn


class WatchedJournal(Journal):
    """Asks at each commit what has left so far."""

    refuse = False
    station: Station

    def commit(self, records: Sequence[Record]) -> dict[int, str]:
        self.station.before.append(self.station.hear())
        self.station.records.append([type(record) for record in records])
        if self.refuse:
            raise JournalError("no more")
        return super().commit(records)


class Station:
    """A broker with a client, a subscriber and a worker at its sockets, all in this thread."""

    def __init__(self, context: zmq.Context[Socket], folder: Path, on_lost: str) -> None:
        self.before: list[list[str]] = []
        self.records: list[list[type]] = []
        self.journal = WatchedJournal(folder, "crash")
        self.journal.station = self
        epoch = self.journal.begin_epoch(0.0)
        core = Core(Identity("here", epoch), [Master(spec(on_lost=on_lost), epoch)], lambda: 7)
        self.endpoints = Endpoints(sockets.router(context), sockets.publisher(context), sockets.router(context))
        for name in ("control", "results", "workers"):
            getattr(self.endpoints, name).bind(f"inproc://{name}")
        supervisor = Supervisor(core, folder / "progress", "inproc://workers")
        guardians = Guardians(folder / "guardians", "inproc://workers", "tested")
        self.broker = Broker(core, self.journal, self.endpoints, supervisor, guardians, Space(folder, 0), _no_status)
        self.client, self.follower, self.worker = (context.socket(kind) for kind in (zmq.DEALER, zmq.SUB, zmq.DEALER))
        for socket, name in ((self.client, "control"), (self.follower, "results"), (self.worker, "workers")):
            socket.connect(f"inproc://{name}")

    def say(self, socket: Socket, message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
        socket.send_multipart([codec.encode(message), *frames])

    def turn(self) -> None:
        """One turn, in which all sockets are looked at."""
        self.broker.turn(dict.fromkeys((self.endpoints.control, self.endpoints.results, self.endpoints.workers), 1))

    def hear(self) -> list[str]:
        """The kinds of messages that have arrived."""
        kinds = []
        for socket, decode, at in (
            (self.client, _client.decode, 0),
            (self.follower, _all.decode, 1),
            (self.worker, _worker.decode, 0),
        ):
            while socket.poll(20):
                kinds.append(type(decode(socket.recv_multipart()[at])).__name__)
        return kinds


def _no_status(broker: Broker) -> Any:
    raise AssertionError("nobody asks for it")


def one_turn(context: zmq.Context[Socket], folder: Path, on_lost: str, *, refuse: bool = False) -> Station:
    """A worker is ready; in one turn a subscriber comes, and a client opens a run, puts two tasks and cancels one."""
    station = Station(context, folder, on_lost)
    station.say(station.worker, m.WorkerHello(m.PROTOCOL_VERSION, "svm", "token", pid=1))
    station.say(station.worker, m.Ready())
    station.turn()
    assert station.hear() == ["Welcome"]
    station.journal.refuse = refuse
    station.follower.subscribe(topics.events_topic("svm", 1))
    table = pack_values([1.0, 2.0])
    station.say(station.client, m.Open(1, "svm", "a"))
    station.say(station.client, m.Submit(1, 1, 0, 2, table.layout), table.frames)
    station.say(station.client, m.Cancel(2, 1, ((1, 2),)))
    return station


def test_nobody_hears_of_a_turn_before_it_is_on_disk(context: zmq.Context[Socket], tmp_path: Path) -> None:
    station = one_turn(context, tmp_path, "hold")
    station.turn()
    assert station.before == [[]]
    assert {BlockAppended, EventAppended} < set(station.records[0])
    assert sorted(station.hear()) == ["Ack", "Beacon", "Dispatch", "Done", "Opened"]
    station.journal.close()


def test_only_a_repeatable_task_may_be_begun_meanwhile(context: zmq.Context[Socket], tmp_path: Path) -> None:
    station = one_turn(context, tmp_path, "retry")
    station.turn()
    assert station.before == [["Dispatch"]]
    assert sorted(station.hear()) == ["Ack", "Beacon", "Done", "Opened"]
    station.journal.close()


def test_a_turn_looks_at_so_many_tasks_however_small(
    context: zmq.Context[Socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DRAIN_ROWS", 10)
    station = Station(context, tmp_path, "retry")
    station.say(station.client, m.Open(1, "svm", "a"))
    station.turn()
    table = pack_values([1.0] * 8)
    for first in (0, 8, 16):
        station.say(station.client, m.Submit(1, 1, first, 8, table.layout), table.frames)
    ends = []
    for _ in range(2):
        station.turn()
        ends.append(station.broker.core.runs[1].next_index)
    assert ends == [16, 24]
    station.journal.close()


def test_an_answer_too_large_for_a_message_is_a_refusal(
    context: zmq.Context[Socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its receiver would drop, and ask for again, is never sent."""
    station = Station(context, tmp_path, "retry")
    for k in range(50):
        station.say(station.client, m.Open(k + 1, "svm", f"run {k}"))
    station.turn()
    assert station.hear() == ["Opened"] * 50
    monkeypatch.setattr(codec, "MAX_HEADER", 1000)
    station.say(station.client, m.ListRuns(77))
    station.turn()
    assert station.client.poll(PATIENCE_MS)
    refused = _client.decode(station.client.recv_multipart()[0])
    assert isinstance(refused, m.Refused)
    assert (refused.code, refused.id) == ("too_large", 77)
    assert "RunList" in refused.message
    station.journal.close()


def test_what_is_listed_has_what_was_done_before_in_the_same_turn(context: zmq.Context[Socket], tmp_path: Path) -> None:
    station = Station(context, tmp_path, "retry")
    station.say(station.client, m.ListRuns(1))
    station.say(station.client, m.Open(2, "svm", "new"))
    station.say(station.client, m.ListRuns(3))
    station.turn()
    lists = []
    for _ in range(3):
        assert station.client.poll(PATIENCE_MS)
        reply = _client.decode(station.client.recv_multipart()[0])
        lists += [(reply.id, len(reply.runs))] if isinstance(reply, m.RunList) else []
        station.turn()
    assert (3, 1) in lists
    assert len(lists) == 2
    station.journal.close()


def test_of_a_turn_that_cannot_be_written_nobody_ever_hears(context: zmq.Context[Socket], tmp_path: Path) -> None:
    station = one_turn(context, tmp_path, "hold", refuse=True)
    with pytest.raises(JournalError):
        station.turn()
    assert station.hear() == []
    station.journal.close()
