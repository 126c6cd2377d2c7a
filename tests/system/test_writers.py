"""One writer at a time: a run outlives its writer, is resumed by name, and an older writer is fenced."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.raw import RawPeer
from helpers.twins import told_to_both
from helpers.waiting import PATIENCE
from helpers.wire import Wire

from taskmaster.bus import messages as m
from taskmaster.bus.errors import Conflict, DaemonUnreachable, Fenced, RunClosed, UnknownMaster, UnknownRun
from taskmaster.learners.client import Lab, connect


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"square": master(), "echo": function("echo")}, **tcp())


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


# -- the writer goes --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from taskmaster.learners.client import connect
lab = connect(sys.argv[1])
run = lab["echo"].open("orphaned", seed=11, metadata={"by": "the first"})
run.tasks.put_many(list(range(500)))
run.flush()
print("put", flush=True)
for k in range(500, 10**9):
    run.tasks.put(k)
"""


def test_the_run_of_a_client_that_was_killed_goes_on_and_is_resumed_by_name(lab: Lab, daemon: Daemon) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, daemon.address], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"put\n"
        writer.kill()
    run = lab["echo"].open("orphaned")
    assert (run.seed, run.metadata) == (11, {"by": "the first"})
    known = run.next_index
    assert known >= 500, "what was acknowledged is there"
    assert run.tasks.put("more") == known
    outputs = {result.index: result.output for result in run.results}
    assert outputs == {**{k: k for k in range(known)}, known: "more"}


def test_a_client_that_was_stopped_for_a_while_goes_on_as_if_nothing_had_been(daemon: Daemon) -> None:
    program = WRITER.replace("orphaned", "frozen").replace("10**9", "3000") + "print(len(list(run.results)))\n"
    with subprocess.Popen([sys.executable, "-c", program, daemon.address], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"put\n"
        writer.send_signal(signal.SIGSTOP)
        daemon.restart()
        writer.send_signal(signal.SIGCONT)
        assert writer.stdout.readline() == b"3000\n"


# -- another one comes ------------------------------------------------------------------------------------------------


def test_an_older_writer_is_fenced_with_a_clear_error_and_the_newer_one_unharmed(lab: Lab, daemon: Daemon) -> None:
    older = lab["echo"].open("shared")
    older.tasks.put("by the older")
    older.flush()
    with daemon.connect() as other:
        newer = other["echo"].open("shared")
        assert newer.tasks.put("by the newer") == 1
        with pytest.raises(Fenced, match=r"run 'shared' of Master 'echo' was opened again by another writer"):
            _put_until_refused(older)
        newer.tasks.put("by the newer")
        assert [result.output for result in newer.results] == ["by the older", "by the newer", "by the newer"]
    again = lab["echo"].open("shared", since="now")
    assert again.tasks.put("by the older, which has taken over") == 3
    assert again.results.get(PATIENCE).output == "by the older, which has taken over"


def _put_until_refused(run: object) -> None:
    for _ in range(1000):
        run.tasks.put("too late")  # type: ignore[attr-defined]
        run.flush()  # type: ignore[attr-defined]


def test_two_writers_that_take_over_from_each_other_lose_nothing_that_was_acknowledged(daemon: Daemon) -> None:
    """Whichever of two clients has opened last may write; both see the same run in the same order."""
    with daemon.connect() as a, daemon.connect() as b:
        acknowledged: dict[int, str] = {}
        for turn in range(10):
            lab = (a, b)[turn % 2]
            run = lab["echo"].open("contested", since="now")
            for k in range(20):
                acknowledged[run.tasks.put(f"{turn}.{k}")] = f"{turn}.{k}"
            run.flush()
            if turn % 3:
                run.detach()
        assert sorted(acknowledged) == list(range(200))
        with daemon.connect() as c:
            results = list(c["echo"].watch("contested").results)
    assert [result.seq for result in results] == list(range(200))
    assert {result.index: result.output for result in results} == acknowledged


def test_a_fenced_writer_stays_fenced_after_a_restart(lab: Lab, daemon: Daemon) -> None:
    with RawPeer(daemon.address) as peer:
        older = peer.ask(m.Open(1, "echo", "guarded"), m.Opened)
        newer = peer.ask(m.Open(2, "echo", "guarded"), m.Opened)
        assert newer.writer > older.writer
        daemon.restart()
        refused = peer.submit(older.run, older.writer, 0, ["late"])
        assert isinstance(refused, m.Refused)
        assert refused.code == "fenced"
        assert peer.submit(newer.run, newer.writer, 0, ["in time"]) == m.Ack(newer.run, 1, newer.writer)


def test_a_run_can_be_written_and_watched_in_the_same_connection(lab: Lab) -> None:
    run = lab["echo"].open("dual")
    run.tasks.put(1)
    with lab["echo"].watch("dual") as reader:
        run.tasks.put(2)
        assert [run.results.get(2).output for _ in range(2)] == [1, 2]
        assert [reader.results.get(2).output for _ in range(2)] == [1, 2]
    run.tasks.put(3)
    assert run.results.get(2).output == 3


# -- the same again ---------------------------------------------------------------------------------------------------


def test_a_submission_that_comes_again_is_acknowledged_again_and_evaluated_once(lab: Lab, daemon: Daemon) -> None:
    with RawPeer(daemon.address) as peer:
        opened = peer.ask(m.Open(1, "echo", "repeated"), m.Opened)
        for _ in range(3):
            assert isinstance(peer.submit(opened.run, opened.writer, 0, ["a", "b"]), m.Ack)
        daemon.restart()
        assert isinstance(peer.submit(opened.run, opened.writer, 0, ["a", "b"]), m.Ack)
        changed = peer.submit(opened.run, opened.writer, 0, ["a", "c"])
        assert isinstance(changed, m.Refused)
        assert changed.code == "conflict"
        gap = peer.submit(opened.run, opened.writer, 5, ["f"])
        assert isinstance(gap, m.Refused)
        assert (gap.code, gap.next_index) == ("gap", 2)
    with daemon.connect() as lab:
        assert sorted(result.output for result in lab["echo"].watch("repeated").results) == ["a", "b"]


def test_a_seed_once_given_stays(lab: Lab) -> None:
    assert lab["echo"].open("seeded", seed=5).seed == 5
    assert lab["echo"].open("seeded").seed == 5
    with pytest.raises(Conflict, match="has seed 5, not 6"):
        lab["echo"].open("seeded", seed=6)


# -- cut off ----------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_cut_again_and_again_loses_and_doubles_nothing(lab: Lab, daemon: Daemon) -> None:
    wire = Wire(daemon.address)
    try:
        with connect(wire.address, timeout=PATIENCE) as cut_off:
            load = Load(cut_off["square"].open("cut"), seed=8, window=2000).start()
            for _ in range(5):
                load.await_results(50)
                wire.cut()
            load.await_results(50)
            load.finish()
            load.check(lab, daemon.state)
    finally:
        wire.close()


# -- what is not there, or over ---------------------------------------------------------------------------------------


def test_names_that_are_not_there_are_answered_with_what_is(lab: Lab) -> None:
    with pytest.raises(UnknownMaster, match=r"no Master 'sqare'.*'square'"):
        lab["sqare"]
    lab["echo"].open("monday").close()
    with pytest.raises(UnknownRun, match=r"no run 'mondai'.*'monday'"):
        lab["echo"].watch("mondai")


def test_a_reader_cannot_put_and_a_closed_run_takes_no_more_until_it_is_opened_again(lab: Lab) -> None:
    run = lab["echo"].open("finished")
    run.tasks.put(1)
    run.close()
    with lab["echo"].watch("finished") as reader, pytest.raises(RunClosed, match="opened for reading"):
        reader.tasks.put(2)
    again = lab["echo"].open("finished")
    assert again.tasks.put(2) == 1
    assert [result.output for result in again.results] == [1, 2]


def test_nobody_answers_where_no_daemon_is(place: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="is it running"):
        connect(f"ipc://{place}/nobody", timeout=0.2)


async def _introductions(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        await run.tasks.put_many([1, 2])
        await run.flush()
    async with lab["echo"].open(run.name) as second:
        await second.introduce({"learner": "another"})
        assert [(one.writer, one.first, one.metadata) for one in await second.writers()] == [
            (1, 0, {}),
            (2, 2, {"learner": "another"}),
        ]
        third = await lab["echo"].open(run.name)
        with pytest.raises(Fenced):
            await second.introduce({})
        await third.detach()
    watched = await lab["echo"].watch(run.name)
    with pytest.raises(RunClosed, match="opened for reading"):
        await watched.introduce({"learner": "nobody"})


test_both_clients_say_who_writes = told_to_both(_introductions)
