"""The word to systemd and what it gives: a manager of the test's own stands in for it."""

from __future__ import annotations

import array
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from helpers.places import short_folder
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import sockets
from taskmaster.bus.errors import ConfigError
from taskmaster.daemon import systemd
from taskmaster.daemon.connections import Connections
from taskmaster.daemon.systemd import KeptSockets, ServiceManager, make_runtime_directory

WATCHDOG = {"WATCHDOG_USEC": "2000000"}


class Listener:
    """Hears what systemd would hear, and keeps the descriptors that it would keep."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.path))
        self.lines: list[str] = []
        self.kept: dict[str, int] = {}

    def hear(self) -> list[str]:
        """Everything so far."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return self.lines
            lines = data.decode().splitlines()
            names = [line.removeprefix("FDNAME=") for line in lines if line.startswith("FDNAME=")]
            for _, _, content in ancillary:
                self.kept[names[0]] = array.array("i", content)[0]
            if "FDSTOREREMOVE=1" in lines:
                os.close(self.kept.pop(names[0]))
            self.lines += lines

    def manager(self, **environment: str) -> ServiceManager:
        """What a process sees that was started with this."""
        return ServiceManager({"NOTIFY_SOCKET": str(self.path), **environment})

    def close(self) -> None:
        self._socket.close()
        for descriptor in self.kept.values():
            os.close(descriptor)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Has time pass when the test says so."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


# -- the word ---------------------------------------------------------------------------------------------------------


def test_what_it_is_told_is_not_passed_on_to_children(listener: Listener) -> None:
    environment = {
        "NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid()), "LISTEN_FDS": "0",
        "LISTEN_PID": "1", "LISTEN_FDNAMES": "", "FDSTORE": "8", "HOME": "/",
    }  # fmt: skip
    manager = ServiceManager(environment)
    assert environment == {"HOME": "/"}
    assert manager.keeps_sockets


def test_where_nobody_listens_nothing_is_said(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    nobody = ServiceManager({})
    nobody.ready("serving")
    nobody.turned(lambda: pytest.fail("nobody wants to know"))
    assert not nobody.keeps_sockets

    gone = listener.manager(**WATCHDOG)
    listener.path.unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            gone.tell("READY=1")
    assert len(caplog.records) == 1, "once is enough"


def test_who_does_not_take_a_word_holds_nobody_up(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    manager = listener.manager()
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):  # more than any queue holds
            manager.tell("WATCHDOG=1", patience=0.0)
    assert len(caplog.records) == 1
    listener.hear()
    manager.ready("serving")
    assert "READY=1" in listener.hear()


def test_the_watchdog_is_fed_by_turns(listener: Listener, clock: Callable[[float], None]) -> None:
    manager = listener.manager(**WATCHDOG)
    for _ in range(100):
        manager.turned(lambda: "serving")
        clock(0.1)
        listener.hear()
    assert listener.hear().count("WATCHDOG=1") == 10, "twice as often as it asks for"
    assert listener.lines.count("STATUS=serving") == 1, "what is as it was is not said again"
    clock(100.0)
    assert listener.hear().count("WATCHDOG=1") == 10, "who does not turn does not feed it"


def test_anothers_watchdog_is_not_fed(listener: Listener, clock: Callable[[float], None]) -> None:
    manager = listener.manager(**WATCHDOG, WATCHDOG_PID="1")
    manager.turned(lambda: "serving")
    assert "WATCHDOG=1" not in listener.hear()


def test_a_wait_for_room_is_excused_while_the_disk_is_full(listener: Listener, clock: Callable[[float], None]) -> None:
    manager = listener.manager(**WATCHDOG)
    for _ in range(1000):
        manager.waits(excused=True, status="waiting")
        clock(1.0)
        listener.hear()
    assert listener.hear().count("WATCHDOG=1") == 1000
    # There is room, as far as can be seen, and yet it cannot commit: that is not fed for ever.
    for _ in range(1000):
        manager.waits(excused=False, status="waiting")
        clock(1.0)
        listener.hear()
    more = listener.hear().count("WATCHDOG=1") - 1000
    assert 50 < more <= 61
    manager.turned(lambda: "serving")
    assert listener.hear().count("WATCHDOG=1") == 1000 + more + 1, "it got on"


def test_a_start_that_gets_on_asks_for_more_time(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_LOOK_SECONDS", 0.05)
    manager = listener.manager()
    with manager.starting():
        until = time.monotonic() + PATIENCE
        while "EXTEND_TIMEOUT_USEC=60000000" not in listener.hear():
            assert time.monotonic() < until
    manager.ready("serving")
    assert listener.hear()[-2:] == ["READY=1", "STATUS=serving"]
    assert "starting" not in {thread.name for thread in threading.enumerate()}


def test_one_that_hangs_does_not(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_LOOK_SECONDS", 0.01)
    looks: list[tuple[float, int, int, int]] = []

    def efforts() -> tuple[float, int, int, int]:
        looks.append((1.0, 2, 3, 4))
        return looks[-1]

    monkeypatch.setattr(systemd, "_efforts", efforts)
    with listener.manager().starting():
        eventually(lambda: len(looks) > 5, "it to be looked at")
    assert "EXTEND_TIMEOUT_USEC=60000000" not in listener.hear()


def test_a_stop_asks_for_the_time_that_evaluations_are_granted(listener: Listener) -> None:
    manager = listener.manager()
    manager.stopping("stopping", grace=3600.0)
    assert listener.hear() == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=3660000000"]


# -- sockets ----------------------------------------------------------------------------------------------------------


class Ends:
    """Sockets that are closed with the test."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._all: list[zmq.Socket[bytes]] = []

    def router(self) -> zmq.Socket[bytes]:
        self._all.append(sockets.router(self.context))
        return self._all[-1]

    def dealer(self) -> zmq.Socket[bytes]:
        self._all.append(sockets.dealer(self.context))
        return self._all[-1]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.context.destroy(linger=0)


@pytest.fixture
def place() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def next_start(listener: Listener, monkeypatch: pytest.MonkeyPatch, name: str = "") -> ServiceManager:
    """What the next process sees, which is given what was kept, or one descriptor under another name."""
    [(kept, descriptor)] = listener.kept.items()
    monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", os.dup(descriptor))
    passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": name or kept}
    return listener.manager(FDSTORE="8", **passed)


@pytest.mark.parametrize("address", ["ipc://{place}/control", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
def test_a_socket_is_kept_from_one_start_to_the_next(
    address: str,
    listener: Listener,
    ends: Ends,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = address.format(place=place)
    before = Ends()
    manager = listener.manager(FDSTORE="8")
    endpoint, remove = KeptSockets(manager).bind(before.router(), address, "the control socket", "control")
    listener.hear()
    assert len(listener.kept) == 1
    remove()
    before.context.destroy(linger=0)  # it has ended when this comes back

    # While nobody is there, it waits to be accepted.
    client = ends.dealer()
    client.connect(endpoint)
    sockets.send(client, [b"hello"])

    second = ends.router()
    kept = KeptSockets(next_start(listener, monkeypatch))
    assert kept.bind(second, address, "the control socket", "control")[0] == endpoint
    kept.settle()
    assert second.poll(int(PATIENCE * 1e3))
    assert (sockets.receive(second) or [b""])[-1] == b"hello"
    assert len([line for line in listener.hear() if line == "FDSTORE=1"]) == 1, "it is kept already"


def test_what_is_kept_can_be_bound_again(listener: Listener, ends: Ends) -> None:
    """To have everybody come in anew: unbound, systemd still listens there."""
    kept = KeptSockets(listener.manager(FDSTORE="8"))
    router = ends.router()
    endpoint, _ = kept.bind(router, "tcp://127.0.0.1:*", "the control socket", "control")
    router.unbind(endpoint)
    assert sockets.bind(router, endpoint, "the control socket", kept.held(endpoint)) == endpoint
    client = ends.dealer()
    client.connect(endpoint)
    sockets.send(client, [b"hello"])
    assert router.poll(int(PATIENCE * 1e3))
    assert kept.held("tcp://127.0.0.1:1") == -1


def test_who_comes_to_what_is_kept_is_seen_all_the_same(listener: Listener, ends: Ends) -> None:
    """A socket has one monitor, which is for those who count connections."""
    router = ends.router()
    connections = Connections((router,), 10, 1 << 20, 1024)
    endpoint, _ = KeptSockets(listener.manager(FDSTORE="8")).bind(
        router, "tcp://127.0.0.1:*", "the control socket", "control"
    )
    client = ends.dealer()
    client.connect(endpoint)
    sockets.send(client, [b"hello"])
    assert router.poll(int(PATIENCE * 1e3))
    connections.catch_up(router, 0.0)
    assert [connection.address for connection in connections] == ["127.0.0.1"]
    for monitor in connections.monitors:
        monitor.close(linger=0)


@pytest.mark.parametrize("change", ["another address", "another file", "another socket", "another group"])
def test_what_was_kept_of_something_else_is_given_up(
    change: str,
    listener: Listener,
    ends: Ends,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, role = f"ipc://{place}/control", "control"
    first = ends.router()
    KeptSockets(listener.manager(FDSTORE="8")).bind(first, address, "the control socket", role)
    listener.hear()
    [before] = listener.kept
    first.close(linger=0)
    if change == "another address":
        address = f"ipc://{place}/other"
    elif change == "another file":
        (place / "control").unlink()
    elif change == "another group":
        if os.geteuid() != 0:
            pytest.skip("only root may give a folder to any group")
        os.chown(place, -1, 12345)
    else:
        role = "results"
        (place / "control").unlink()
    second = ends.router()
    kept = KeptSockets(next_start(listener, monkeypatch))
    kept.bind(second, address, "the control socket", role)
    kept.settle()
    listener.hear()
    assert before not in listener.kept
    assert len(listener.kept) == 1, "the new one is kept"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.removeprefix("ipc://"))


def test_sockets_of_a_unit_have_to_be_those_of_the_configuration(
    listener: Listener, ends: Ends, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        listener.kept["taskmaster.socket"] = os.dup(theirs.fileno())
        taken = ends.router()
        kept = KeptSockets(next_start(listener, monkeypatch))
        assert kept.bind(taken, f"tcp://127.0.0.1:{port}", "the control socket", "control")[0].endswith(f":{port}")
        kept.settle()
        taken.close(linger=0)

        kept = KeptSockets(next_start(listener, monkeypatch))
        with pytest.raises(ConfigError, match=rf"tcp://127\.0\.0\.1:{port} \(of taskmaster\.socket\)"):
            kept.settle()


def test_without_somebody_to_keep_it_a_socket_is_removed(listener: Listener, ends: Ends, place: Path) -> None:
    _, remove = KeptSockets(listener.manager()).bind(
        ends.router(), f"ipc://{place}/control", "the control socket", "control"
    )
    assert (place / "control").exists()
    remove()
    assert not (place / "control").exists()
    assert not listener.hear()


# -- its folder -------------------------------------------------------------------------------------------------------


def test_the_folder_of_one_of_several_is_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.chmod(0o2755)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(place / "west"))
    umask = os.umask(0o077)
    try:
        make_runtime_directory()
        make_runtime_directory()
    finally:
        os.umask(umask)
    assert (place / "west").stat().st_mode & 0o7777 == 0o2750

    monkeypatch.setenv("RUNTIME_DIRECTORY", "/proc/none/west")
    with pytest.raises(ConfigError, match="systemd-tmpfiles --create"):
        make_runtime_directory()
