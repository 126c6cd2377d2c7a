"""A daemon that is told to stop lets what is being evaluated finish, up to a bound; the next one goes on from there."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.learners.client import Lab

#: Longer than any test waits.
LONG = "10 min"


@pytest.fixture
def daemon(start_daemon: StartDaemon, visits: Visits) -> Daemon:
    masters = {
        "retry": function("visit", env=visits.env, workers=2),
        "hold": function("visit", env=visits.env, on_lost="hold"),
    }
    return start_daemon(masters, grace=LONG)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def begin_to_stop(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    daemon.await_note("STOPPING=1")


def test_what_is_being_evaluated_may_finish_and_the_rest_waits_for_the_next_start(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with lab["retry"].open() as run:
        run.tasks.put_many(["a", "b", "c"])
        first, second = visits.next(), visits.next()
        begin_to_stop(daemon)
        first.go()
        assert run.results.get(PATIENCE).output == first.point, "results still come"
        run.tasks.put("d")
        run.flush()  # tasks are still taken
        second.go()
        assert daemon.wait() == 0
        assert visits.none_waits(), "nothing further was begun"
        run.tasks.put("e")
        daemon.start()
        for _ in range(3):
            visits.next().go()
        results = [run.results.get(PATIENCE) for _ in range(4)]
        assert {first.point, *(result.output for result in results)} == {"a", "b", "c", "d", "e"}
        assert [result.seq for result in results] == [1, 2, 3, 4]
        assert {result.attempt for result in results} == {1}


def sockets_of(daemon: Daemon) -> set[str]:
    """The files of its Unix sockets."""
    return {path.name for path in daemon.state.iterdir() if path.is_socket()}


@pytest.mark.parametrize("listening", ["here", "on the network"])
def test_its_sockets_leave_no_files_behind(start_daemon: StartDaemon, listening: str) -> None:
    daemon = start_daemon({"echo": function("echo")}, **({} if listening == "here" else tcp()))
    assert sockets_of(daemon) == ({"control", "results", "workers"} if listening == "here" else {"local"})
    assert daemon.stop() == 0
    assert sockets_of(daemon) == set()


def test_a_socket_at_which_somebody_else_listens_by_now_is_left_to_them(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"echo": function("echo")})
    path = daemon.state / "control"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen()
        assert daemon.stop() == 0
        assert sockets_of(daemon) == {"control"}
        client.connect(str(path))


@pytest.mark.parametrize("hurry", ["the time is over", "a second signal"])
def test_what_takes_longer_is_broken_off_and_evaluated_again_or_held(
    lab: Lab, daemon: Daemon, visits: Visits, hurry: str
) -> None:
    if hurry == "the time is over":
        daemon.configure(
            {name: function("visit", env=visits.env, on_lost=name) for name in ("retry", "hold")},
            grace="100 ms",
        )
        daemon.stop()
        daemon.start()
    with lab["retry"].open() as retried, lab["hold"].open() as held:
        retried.tasks.put("endless")
        held.tasks.put("in doubt")
        began = [visits.next(), visits.next()]
        begin_to_stop(daemon)
        if hurry == "a second signal":
            daemon.signal(signal.SIGINT)
        assert daemon.wait() == 0
        for visit in began:
            visit.await_end()
        daemon.start()
        again = visits.next()
        assert again.point == "endless", "what is repeatable is evaluated again, without blame"
        again.go()
        assert (result := retried.results.get(PATIENCE)).output == "endless"
        assert result.attempt == 1
        eventually(lambda: lab["hold"].statistics().held == 1, "the other to be held")
        assert visits.none_waits()
        assert held.results.get_nowait() is None
        held.cancel()


def test_stops_under_load_lose_and_repeat_nothing_and_cost_no_task_an_attempt(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"square": master()}, grace=LONG)
    with daemon.connect() as lab:
        load = Load(lab["square"].open("load"), seed=4, window=2000).start()
        for _ in range(3):
            load.await_results(300)
            assert daemon.stop() == 0
            assert daemon.workers() == set(), "it takes its workers along"
            daemon.start()
        load.await_results(300)
        load.finish()
        load.check(lab, daemon.state)
        assert {result.attempt for result in load.results if result.outcome == "done"} == {1}
