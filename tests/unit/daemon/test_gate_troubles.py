"""What can be wrong at the gate: a file of keys that is refused, or is not read; an authenticator that is dead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import sockets
from taskmaster.bus.errors import ConfigError
from taskmaster.bus.keys import Credentials, new_pair
from taskmaster.config.authorised import Grant, edit, read_grants
from taskmaster.daemon import doorkeeper, gate
from taskmaster.daemon.conditions import gate_conditions
from taskmaster.daemon.gate import Gate, KeyFile
from taskmaster.daemon.gatehouse import Gatehouse, open_gatehouse


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    edit(path, {"anna": Grant("anna", new_pair().public, "learner")})
    return path


@pytest.fixture
def gatehouse(keys: Path) -> Iterator[Gatehouse]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield open_gatehouse(context, keys, 1e9)
    context.destroy(linger=0)


def troubles(gatehouse: Gatehouse, now: float = 0.0) -> list[tuple[str, str]]:
    gatehouse.look(1e9)
    return [(condition.level, condition.message) for condition in gate_conditions(gatehouse, now)]


def test_a_refused_file_is_trouble_until_it_is_right(gatehouse: Gatehouse, keys: Path) -> None:
    assert troubles(gatehouse) == []
    good = keys.read_text()
    keys.write_text(good.replace("learner", "king"))
    [(level, text)] = eventually(lambda: troubles(gatehouse), "the mistake to be noticed")
    assert level == "error"
    assert text.startswith(f"the changed keys are refused, those from before stay in force: {keys}:")
    assert "king" in text
    assert len(gatehouse.gate) == 1
    keys.unlink()
    eventually(lambda: "there is no such file" in troubles(gatehouse)[0][1], "another mistake")
    keys.write_text(good)
    eventually(lambda: troubles(gatehouse) == [], "it to be over")


def test_a_file_that_others_can_write_is_trouble(gatehouse: Gatehouse, keys: Path) -> None:
    edit(keys, {"anna": Grant("anna", new_pair().public, "admin")})
    keys.chmod(0o666)
    [(_, text)] = eventually(lambda: troubles(gatehouse), "it to be noticed")
    assert text.startswith(f"the changed keys are refused, those from before stay in force: {keys}: others than its")
    assert text.endswith(f"chmod go-w {keys}")
    assert [grant.role for grant in gatehouse.gate.grants] == ["learner"]
    keys.chmod(0o644)
    eventually(lambda: not troubles(gatehouse), "it to be over")
    assert [grant.role for grant in gatehouse.gate.grants] == ["admin"]


def test_no_daemon_starts_with_a_file_that_others_can_write(keys: Path) -> None:
    def opened() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            _opened = open_gatehouse(context, keys, 1e9)
        finally:
            context.destroy(linger=0)

    opened()
    keys.chmod(0o664)
    with pytest.raises(ConfigError, match=f"chmod go-w {keys}"):
        opened()
    keys.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(keys, 12345, -1)
        with pytest.raises(ConfigError, match=f"is of uid 12345, who could let in whom they like.*chown 0 {keys}"):
            opened()


def test_keys_hold_again_when_the_clock_is_put_back() -> None:
    """It had jumped ahead, as it does before a time server is asked."""
    lasting, ending = new_pair(), new_pair()
    grants = [Grant("anna", lasting.public, "learner"), Grant("bob", ending.public, "learner", expires=2000.0)]
    grants.append(Grant("carl", new_pair().public, "learner", expires=2000.0, revoked=True))
    gate = Gate(grants, 1000.0)
    assert len(gate) == 2
    assert not gate.expire(1500.0)
    assert gate.expire(5000.0), "bob may less"
    assert gate.user(ending.public) is None
    assert not gate.expire(1500.0), "nobody may less"
    assert gate.user(ending.public) is not None
    assert gate.next_expiry == 2000.0
    assert gate.expire(2000.0)
    assert len(gate) == 1


def test_a_file_that_is_not_read_is_trouble(gatehouse: Gatehouse, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network disk that is away: a pipe that nobody writes to."""
    monkeypatch.setattr(gate, "_READING_SECONDS", 0.05)
    text = keys.read_text()
    keys.unlink()
    os.mkfifo(keys)
    eventually(lambda: "has not been read for" in str(troubles(gatehouse, -1.0)), "a word")
    keys.write_text(text)  # into the pipe
    keys.unlink()
    keys.write_text(text)
    eventually(lambda: not troubles(gatehouse, -1.0), "it to be over")


@pytest.mark.parametrize("late", ["before it is read", "while it is read"])
def test_a_file_that_is_being_written_is_not_taken_for_whole(
    keys: Path, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor that writes in place empties it first: without a mistake in it, and without a key."""
    file = KeyFile(keys)
    text = keys.read_text()

    def write_the_rest(*_: object) -> None:
        if not keys.read_text():
            keys.write_text(text)

    def read_too_early(path: Path) -> tuple[Grant, ...]:
        grants = read_grants(path)
        write_the_rest()
        return grants

    if late == "before it is read":
        file._pause = write_the_rest
    else:
        monkeypatch.setattr(gate, "read_grants", read_too_early)
    keys.write_text("")
    file.look()
    grants = eventually(lambda: file.is_read and [file.take()], "it to be read")
    assert [[grant.name for grant in taken or ()] for taken in grants] == [["anna"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_is_trouble_and_begins_anew(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(keys)

    def dies(path: Path) -> None:
        raise MemoryError

    def looked() -> str:
        file.look()
        assert file.take() is None
        return file.trouble

    with monkeypatch.context() as broken:
        broken.setattr(gate, "read_grants", dies)
        keys.touch()
        assert eventually(looked, "a word") == f"{keys}: could not be read, see above"

    def read() -> object:
        file.look()
        return file.take()

    assert eventually(read, "it to be read")
    assert file.trouble == ""


def test_an_authenticator_that_does_not_answer_is_trouble(gatehouse: Gatehouse) -> None:
    doorkeeper = gatehouse.doorkeeper
    for now in (0.0, 5.0, 10.0, 14.0):
        doorkeeper.probe(now)
        assert doorkeeper.trouble(now) == ""
    doorkeeper.probe(16.0)
    assert doorkeeper.trouble(16.0) == (
        "the authenticator has not answered for 16 s: the daemon listens to the network no more; restart it"
    )

    def answered() -> bool:
        doorkeeper.serve(17.0)
        doorkeeper.probe(17.0)
        return not doorkeeper.trouble(1000.0)

    eventually(answered, "it to be over")
    assert doorkeeper.refused == 0, "it was its own question"


def test_a_loop_that_has_stood_still_is_no_trouble_of_the_authenticators(gatehouse: Gatehouse) -> None:
    doorkeeper = gatehouse.doorkeeper
    doorkeeper.probe(0.0)
    doorkeeper.probe(3600.0)
    assert doorkeeper.trouble(3600.0) == ""


def test_who_connects_again_and_again_and_says_nothing_is_trouble(gatehouse: Gatehouse) -> None:
    while gatehouse.bounds.knock("anna", 5.0):
        pass
    [condition] = gate_conditions(gatehouse, 5.0)
    assert (condition.kind, condition.message) == (
        "excess",
        "key 'anna' has made too many connections, or says nothing by thousands of them; further ones wait",
    )
    assert not list(gate_conditions(gatehouse, 7.0))


def test_when_the_authenticator_is_dead_the_network_is_shut_out(
    gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "_PATIENCE_SECONDS", 0.01)
    shut: list[str] = []
    gatehouse.shut = lambda: shut.append(gatehouse.trouble)
    eventually(lambda: troubles(gatehouse), "it to be noticed")
    [condition] = gate_conditions(gatehouse, 0.0)
    assert (condition.kind, condition.level, [condition.message]) == ("authenticator", "critical", shut)
    gatehouse.doorkeeper.serve(17.0)
    assert troubles(gatehouse) == [("critical", *shut)], "and that is how it stays"
    assert len(shut) == 1


@pytest.fixture
def question(gatehouse: Gatehouse) -> Iterator[zmq.Socket[bytes]]:
    """Asks as ZeroMQ does, of a handshake."""
    with gatehouse.doorkeeper.socket.context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect("inproc://zeromq.zap.01")
        yield socket


def test_whoever_is_kept_out_has_no_answer_till_they_may_come(
    gatehouse: Gatehouse, question: zmq.Socket[bytes]
) -> None:
    doorkeeper, [anna] = gatehouse.doorkeeper, gatehouse.gate.grants

    def ask(now: float) -> None:
        frames = [b"", b"1.0", b"7", b"taskmaster", b"192.0.2.1", b"", b"CURVE", anna.key]
        question.send_multipart(frames)
        assert doorkeeper.socket.poll(10_000)
        doorkeeper.serve(now)

    gatehouse.bounds.bar("anna", 100.0)
    ask(100.0)
    doorkeeper.look(100.5)
    assert not question.poll(50)
    doorkeeper.look(102.0)
    assert question.poll(10_000)
    assert question.recv_multipart()[3:6] == [b"200", b"", (gatehouse.gate.user(anna.key) or "").encode()]
    # Who has gone meanwhile, as ZeroMQ waits no longer, has made no connection: it does not count as one.
    gatehouse.bounds.bar("anna", 200.0)
    ask(200.0)
    doorkeeper.look(200.0 + sockets.HANDSHAKE_SECONDS)
    assert doorkeeper.admitted == 1
    assert not question.poll(50)
    doorkeeper.look(300.0)
    assert doorkeeper.admitted == 1


@pytest.mark.parametrize("is_enforced", [True, False])
def test_where_there_is_no_authenticator_nobody_is_let_in(is_enforced: bool) -> None:
    """ZeroMQ would encrypt for whoever comes, and ask nobody who that is, if the domain were not enforced."""
    own, anna = new_pair(), new_pair()
    with zmq.Context() as context, zmq.Context() as elsewhere:
        router = sockets.router(context)
        sockets.secure(router, own.secret, doorkeeper.NETWORK_DOMAIN)
        if not is_enforced:
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 0)
        told = router.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        peer = sockets.dealer(elsewhere, Credentials(anna, own.public))
        peer.connect(sockets.bind(router, "tcp://127.0.0.1:*", "the control socket"))
        peer.send(b"let me in")
        assert told.poll(round(PATIENCE * 1e3)), "it has come"
        event = int.from_bytes(told.recv_multipart()[0][:2], sys.byteorder)
        router.disable_monitor()
        for socket in (router, peer, told):
            socket.close(linger=0)
    assert (event == zmq.EVENT_HANDSHAKE_SUCCEEDED) is not is_enforced
