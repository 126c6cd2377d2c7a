"""What was put gets to the daemon, however a program leaves; and where it does not, somebody is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.twins import connect
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.learners import client
from taskmaster.learners.workmaster import WorkMaster

#: More than leave at once: what follows the first waits for its acknowledgement.
MANY = 200


@pytest.fixture(scope="module")
def shared(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"echo": function("echo", workers=0)})


@pytest.fixture
def lost(start_daemon: StartDaemon) -> Daemon:
    """A daemon that a test may kill."""
    return start_daemon({"echo": function("echo", workers=0)})


def tasks_of(daemon: Daemon, name: str) -> int:
    with daemon.connect() as lab:
        return next((run.tasks for run in lab.runs() if run.name == name), 0)


Story = Callable[[Any], Any]


def tell(twin: str, daemon: Daemon, story: Story, **options: Any) -> None:
    async def play() -> None:
        async with connect[twin](daemon.address, PATIENCE, **options) as lab:
            await story(lab)

    asyncio.run(asyncio.wait_for(play(), 2 * PATIENCE))


@pytest.mark.parametrize("twin", connect)
def test_who_leaves_is_told_what_was_not_acknowledged(lost: Daemon, twin: str) -> None:
    async def story(lab: Any) -> None:
        run = await lab["echo"].open("short")
        lost.kill()
        for k in range(5):
            await run.tasks.put(k)

    with pytest.raises(DaemonUnreachable, match=r"5 tasks of run 'short' \(Master 'echo'\) were put and not acknow"):
        tell(twin, lost, story, patience=0.3)
    lost.start()
    assert tasks_of(lost, "short") == 0


@pytest.mark.parametrize("twin", connect)
def test_who_leaves_by_an_error_gets_that_error(lost: Daemon, twin: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(lab: Any) -> None:
        async with lab["echo"].open("short") as run:
            lost.kill()
            await run.tasks.put(1)
            raise ZeroDivisionError("something else")

    with caplog.at_level(logging.WARNING, "taskmaster"), pytest.raises(ZeroDivisionError, match="something else"):
        tell(twin, lost, story)
    assert "1 task of run 'short' (Master 'echo') were put and not acknowledged" in caplog.text


@pytest.mark.parametrize("twin", connect)
def test_a_run_that_is_left_too_early_is_still_sent(lost: Daemon, twin: str) -> None:
    async def story(lab: Any) -> None:
        run = await lab["echo"].open("late")
        lost.kill()
        await run.tasks.put(1)
        with pytest.raises(DaemonUnreachable, match=r"run 'late': no acknowledgement of 1 task within 0.1 s"):
            await run.detach(0.1)
        lost.start()

    tell(twin, lost, story)
    assert tasks_of(lost, "late") == 1


BLOCKING = """
from taskmaster.learners import connect
lab = connect({address!r})
run = lab["echo"].open({name!r})
{before}
for k in range({n}):
    run.tasks.put(k)
"""
ASYNCIO = """
import asyncio
from taskmaster.learners.aio import connect

async def main():
    global lab
    lab = await connect({address!r})
    run = await lab["echo"].open({name!r})
    {before}
    for k in range({n}):
        await run.tasks.put(k)

asyncio.run(main())
"""
FORGETFUL = ASYNCIO.replace("    global lab\n", "")
LEAVING = {"falls off its end": "", "exits": "import sys; sys.exit()", "raises": "1 / 0", "forgets it": "del lab, run"}


def end(program: str, before: str = "", **names: Any) -> subprocess.CompletedProcess[str]:
    text = program.format(before=before, **names)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=2 * PATIENCE)


@pytest.mark.parametrize("how", LEAVING)
def test_a_program_that_does_not_close_has_put_all_the_same(shared: Daemon, how: str) -> None:
    done = end(BLOCKING + LEAVING[how], address=shared.address, name=how, n=MANY)
    assert done.returncode == (how == "raises")
    assert (done.stderr == "") == (how != "raises"), done.stderr
    assert tasks_of(shared, how) == MANY


@pytest.mark.parametrize("kept", ["beyond", "within"])
def test_nor_does_one_whose_event_loop_has_ended(shared: Daemon, kept: str) -> None:
    done = end(ASYNCIO if kept == "beyond" else FORGETFUL, address=shared.address, name=kept, n=MANY)
    assert (done.returncode, done.stderr) == (0, "")
    assert tasks_of(shared, kept) == MANY


@pytest.mark.parametrize("program", [BLOCKING, ASYNCIO, FORGETFUL], ids=["blocking", "asyncio", "forgetful"])
def test_a_program_that_ends_without_its_daemon_says_what_is_lost(lost: Daemon, program: str) -> None:
    hasten = "import taskmaster.learners.{0} as c; c.RETIRE_SECONDS = 0.3\n"
    text = hasten.format("channel") + hasten.format("aiochannel") + program
    done = end(text, address=lost.address, name="gone", n=MANY, before=f"import os; os.kill({lost.pid}, 9)")
    assert done.returncode == 0
    assert f"{MANY} tasks of run 'gone' (Master 'echo') were put and not acknowledged" in done.stderr


def test_a_connection_that_is_forgotten_sends_what_was_put(shared: Daemon) -> None:
    lab = client.connect(shared.address)
    run = lab["echo"].open("forgotten")
    for k in range(MANY):
        run.tasks.put(k)
    channel = lab._channel
    del lab, run
    gc.collect()
    eventually(lambda: channel.closed, "the connection to end")
    assert tasks_of(shared, "forgotten") == MANY


def test_a_workmaster_that_nobody_closes_keeps_what_was_put(tmp_path: Path) -> None:
    program = """
from taskmaster.learners import WorkMaster
master = WorkMaster(abs, workers=1, state={state!r})
run = master.master.open("kept")
for k in range({n}):
    run.tasks.put(k)
"""
    done = end(program, state=str(tmp_path / "state"), n=MANY)
    assert (done.returncode, done.stderr) == (0, "")
    with WorkMaster(abs, workers=1, state=tmp_path / "state") as master, master.master.open("kept") as run:
        assert run.next_index == MANY
