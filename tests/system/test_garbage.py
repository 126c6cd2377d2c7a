"""Nothing that anybody sends makes the daemon raise or stall, or costs an honest client more than a moment."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import zmq
from helpers.absurd import TO_CONTROL, TO_WORKERS, Said, values
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.raw import RawPeer
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError, TaskFailed, VersionMismatch
from taskmaster.learners.client import Lab, Run

#: What the daemon takes in one frame.
MAX_MESSAGE = 1 << 20


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {"echo": function("echo"), "none": function("echo", workers=0)}
    return start_shared_daemon(masters, max_message=MAX_MESSAGE, heartbeat="100 ms", lost_after="1 s", **tcp())


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    if not daemon.is_running:  # a test before this one has shown how to end it
        daemon.start()
    with daemon.connect() as lab:
        yield lab


@pytest.fixture(autouse=True)
def honest(lab: Lab, daemon: Daemon) -> Iterator[Run]:
    """An honest client, before, during and after: all is as it should be at the end of each test."""
    before = lab.status()
    with lab["echo"].open() as run:
        _talk(run)
        yield run
        _talk(run)
    after = lab.status()
    assert (after.epoch, after.pid) == (before.epoch, before.pid), "it has ended, and was started again"
    assert after.masters[0].lost == before.masters[0].lost, "it has cost a worker"
    assert "Traceback" not in daemon.log


def _talk(run: Run) -> None:
    index = run.tasks.put("are you there?")
    result = run.results.get(PATIENCE)
    assert (result.index, result.output) == (index, "are you there?")


@pytest.fixture
def addresses(lab: Lab) -> tuple[str, str, str]:
    """Of the control socket, the results and the workers."""
    assert lab._core.described is not None
    return lab.address, lab._core.described.results, lab._core.described.workers


@pytest.fixture
def peer(daemon: Daemon) -> Iterator[RawPeer]:
    with RawPeer(daemon.address) as peer:
        yield peer


# -- well formed, and absurd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("say", TO_CONTROL.values(), ids=list(TO_CONTROL))
def test_a_client_that_talks_nonsense_is_answered(peer: RawPeer, lab: Lab, say: Callable[[m.Opened], Said]) -> None:
    opened = peer.ask(m.Open(1, "none", "nonsense"), m.Opened)
    message, frames = say(opened)
    peer.say(message, frames)
    peer.hear()
    assert lab["none"].statistics().queued < 100, "it has believed the nonsense"
    assert peer.ask(m.Cancel(2, opened.run), m.Done).count < 100


@pytest.mark.parametrize("say", TO_WORKERS.values(), ids=list(TO_WORKERS))
def test_a_worker_that_talks_nonsense_changes_nothing(
    lab: Lab, addresses: tuple[str, str, str], say: Callable[[m.Dispatch], Said]
) -> None:
    with RawPeer(addresses[2]) as worker, lab["none"].open() as run:
        worker.ask(m.WorkerHello(m.PROTOCOL_VERSION, "none", "absurd"), m.Welcome)
        worker.say(m.Ready())
        run.tasks.put("task")
        message, frames = say(worker.hear_of(m.Dispatch))
        worker.say(message, frames)
        worker.say(m.WorkerLost("absurd", "WorkerLost", "it goes"))
        eventually(lambda: not lab["none"].statistics().workers, "the worker to be gone")
        assert run.cancel() == 1, "the task is as open as before"
        assert run.results.get(PATIENCE).outcome == "cancelled"
        counts = lab["none"].statistics()
        assert (counts.done, counts.failed) == (0, 0)


def test_points_that_cannot_be_decoded_fail_alone(lab: Lab, peer: RawPeer) -> None:
    bad = [b"\xc1", b"", b"\x01\x02", b"\x91" * 200_000 + b"\x01", b"\xc7\x02\x63ab", b"\xc7\x02\x03\x05a"]
    opened = peer.ask(m.Open(1, "echo", "undecodable"), m.Opened)
    layout, frames = values(b"\x01", *bad, b"\x02")
    peer.say(m.Submit(opened.run, opened.writer, 0, len(bad) + 2, layout), frames)
    with lab["echo"].watch("undecodable") as run:
        results = sorted((run.results.get(PATIENCE) for _ in range(len(bad) + 2)), key=lambda result: result.index)
    assert (results[0].output, results[-1].output) == (1, 2)
    for result in results[1:-1]:
        assert isinstance(result.error, TaskFailed)
        assert result.error.kind.endswith("ProtocolError")
        with pytest.raises(ProtocolError, match=r"decoded|unknown|cut short"):
            _ = result.input


def test_undecodable_points_between_others_are_cancelled_like_any(lab: Lab, peer: RawPeer) -> None:
    opened = peer.ask(m.Open(1, "none", "mixed"), m.Opened)
    layout, frames = values(b"\xc1")
    peer.say(m.Submit(opened.run, opened.writer, 0, 1, layout), frames)
    peer.submit(opened.run, opened.writer, 1, [1.0, 2.0])
    with lab["none"].watch("mixed") as watching:
        assert peer.ask(m.Cancel(1, opened.run), m.Done).count == 3
        assert [watching.results.get(PATIENCE).outcome for _ in range(3)] == ["cancelled"] * 3
    with lab["none"].watch("mixed") as again:
        assert [result.outcome for result in again.results] == ["cancelled"] * 3


# -- another version --------------------------------------------------------------------------------------------------


def test_a_client_of_another_version_is_told_so(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "PROTOCOL_VERSION", 99)
    with pytest.raises(VersionMismatch, match="client version 99; install the same release on both sides"):
        daemon.connect()


def test_a_worker_of_another_version_is_told_so(addresses: tuple[str, str, str]) -> None:
    with RawPeer(addresses[2]) as worker:
        refused = worker.ask(m.WorkerHello(99, "none", "new"), m.Refused)
    assert refused.code == "version"
    assert "worker version 99" in refused.message


# -- not well formed at all -------------------------------------------------------------------------------------------


def test_what_is_no_message_is_counted_and_answered(lab: Lab, addresses: tuple[str, str, str]) -> None:
    before = lab.status().dropped
    for address in (addresses[0], addresses[2]):
        with RawPeer(address) as peer:
            for frames in ([b""], [b"\xc1"], [b"GET / HTTP/1.1\r\n\r\n"], [b"\x80"], [b"\x91" * 100_000], [b"", b""]):
                peer.send(*frames)
                assert peer.hear_of(m.Refused).code == "protocol"
    assert lab.status().dropped == before + 12


def test_a_request_that_cannot_be_read_is_refused_under_its_number(peer: RawPeer) -> None:
    for broken in (m.Open(7, "none", 5), m.Cancel(7, -1)):  # type: ignore[arg-type]
        refused = peer.ask(broken, m.Refused)
        assert (refused.code, refused.id) == ("protocol", 7)


def test_a_message_of_many_frames_is_dropped_whole(lab: Lab, addresses: tuple[str, str, str]) -> None:
    before = lab.status().dropped
    for address in (addresses[0], addresses[2]):
        with RawPeer(address) as peer:
            peer.send(codec.encode(m.Ping(1)), *[b"frame"] * 20_000)
            peer.say(m.Ping(2) if address == addresses[0] else m.WorkerHello(m.PROTOCOL_VERSION, "none", "many"))
            answer, _ = peer.hear()
            assert isinstance(answer, m.Pong | m.Welcome), "the next message is read from its beginning"
    assert lab.status().dropped == before + 2


def test_an_oversized_message_costs_its_sender_the_connection_and_nobody_memory(
    lab: Lab, daemon: Daemon, addresses: tuple[str, str, str]
) -> None:
    before = daemon.memory
    with RawPeer(addresses[0]) as control, RawPeer(addresses[2]) as workers:
        for peer in (control, workers):
            peer.send(bytes(MAX_MESSAGE + 1))
            peer.send(bytes(300 << 20))
        assert control.ask(m.Ping(1), m.Pong).id == 1, "it comes back by itself"
        assert daemon.memory - before < 32 << 20


def _mutations(seed: int, n: int) -> Iterator[list[bytes]]:
    """Messages of the protocol with a few bytes changed, cut off, inserted or doubled."""
    chance = random.Random(seed)
    opened = m.Opened(1, 1, "none", "nonsense", 1, 0, 0, 0)
    dispatch = m.Dispatch((1, 1), 1, 0, 1, values(b"1")[0])
    said = [say(opened) for say in TO_CONTROL.values()] + [say(dispatch) for say in TO_WORKERS.values()]
    for _ in range(n):
        message, frames = chance.choice(said)
        mutated = [bytearray(frame) for frame in (codec.encode(message)[:5000], *frames)]
        for _ in range(chance.randint(1, 4)):
            frame = chance.choice(mutated)
            at = chance.randrange(len(frame) + 1)
            match chance.randrange(4):
                case 0:
                    frame[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del frame[at : at + chance.randint(1, 8)]
                case 2:
                    frame[at:at] = chance.randbytes(chance.randint(1, 8))
                case _:
                    mutated.append(bytearray(chance.randbytes(chance.randint(0, 64))))
        yield [bytes(frame) for frame in mutated]


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_damaged_messages_leave_it_unmoved(
    honest: Run, addresses: tuple[str, str, str], daemon: Daemon, seed: int
) -> None:
    with RawPeer(addresses[0]) as control, RawPeer(addresses[2]) as workers:
        for k, frames in enumerate(_mutations(seed, 2000)):
            (control if k % 2 else workers).send(*frames)
            if not k % 250:
                _talk(honest)
    lines = [line for line in daemon.log.splitlines() if "dropped message" in line]
    assert len(lines) < 30, "a flood must not fill the log"


def test_subscriptions_to_anything_and_words_to_the_results_socket_are_harmless(
    honest: Run, addresses: tuple[str, str, str]
) -> None:
    chance = random.Random(7)
    with zmq.Context() as context, context.socket(zmq.XSUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(addresses[1])
        for k in range(3000):
            length = chance.choice((0, 1, 8, 600, 5000))
            subscriber.send_multipart([bytes([k % 3]) + chance.randbytes(length)] * chance.choice((1, 1, 1, 50)))
            subscriber.poll(0)
        _talk(honest)


# -- no ZeroMQ at all -------------------------------------------------------------------------------------------------

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)


@pytest.mark.parametrize(
    "spoken", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", random.Random(1).randbytes(4096), GREETING, GREETING[:11]]
)
def test_programs_that_speak_something_else_are_turned_away(addresses: tuple[str, str, str], spoken: bytes) -> None:
    with ExitStack() as stack:
        for address in addresses:
            host, _, port = address.removeprefix("tcp://").partition(":")
            for _ in range(20):
                connection = stack.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(spoken)


def test_a_flood_of_nonsense_does_not_starve_the_others(honest: Run, addresses: tuple[str, str, str]) -> None:
    enough = threading.Event()

    def flood() -> None:
        with RawPeer(addresses[0]) as peer:
            while not enough.is_set():
                peer.send(b"\xc1", b"nonsense")

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for _ in range(20):
            _talk(honest)
    finally:
        enough.set()
        flooding.join()
