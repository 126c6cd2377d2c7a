"""Tasks in doubt, from the worker that is killed to an operator's word: both clients, the commands, and a restart."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from helpers.cli import Program, Terminal
from helpers.daemon import Daemon, function
from helpers.documents import document, section, tables
from helpers.places import StartDaemon, short_folder
from helpers.twins import connect
from helpers.visits import Visits
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, InvalidOutput, TaskFailed, UnknownMaster, UnknownRun, UnknownTask
from taskmaster.learners.client import Lab, Run

CLI = document("docs/cli.md")
X = {"x": {"unit": "V", "min": 0, "max": 10}}
Y = {"y": {"unit": "nA", "min": 0, "max": 10}}


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    probe = function("visit", env=visits.env, on_lost="hold", parameters=X)
    return start_shared_daemon(
        {
            "probe": {**probe, "outputs": Y},
            "two": {**probe, "outputs": {**Y, "z": {}}},
            "free": function("visit", env=visits.env, on_lost="hold"),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


def documented(heading: str) -> list[str]:
    """The keys in a table of docs/cli.md."""
    [table] = tables(section(CLI, heading))
    return [row[0] for row in table]


def lose(run: Run, visits: Visits, *points: Any) -> list[int]:
    """Put points and kill the worker of each; returns the tasks in doubt of the run."""
    lab, n = run.master.lab, len(points)
    for point in points:
        run.tasks.put(point)
        visits.next().kill_worker()
    return [task.index for task in eventually(lambda: _if_so_many(lab, run, n), f"{n} tasks in doubt")]


def _if_so_many(lab: Lab, run: Run, n: int) -> Any:
    tasks = lab.held(run=run.number)
    return tasks if len(tasks) == n else ()


def played(daemon: Daemon, twin: str, story: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Tell ``story`` with a connection of this client."""

    async def play() -> None:
        async with connect[twin](daemon.address, PATIENCE) as lab:
            await asyncio.wait_for(story(lab), 2 * PATIENCE)

    asyncio.run(play())


# -- both clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", connect)
def test_a_program_finds_what_is_in_doubt_and_says_what_becomes_of_it(
    daemon: Daemon, lab: Lab, visits: Visits, twin: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = time.time()
    other = lab["free"].open(f"free by {twin}")
    number = other.number
    assert lose(other, visits, "a", ("b", 2.0)) == [0, 1]

    async def story(lab: Any) -> None:
        tasks = await lab.held("free")
        assert [(task.run, task.master, task.name, task.index, task.attempt) for task in tasks] == [
            (number, "free", f"free by {twin}", index, 1) for index in (0, 1)
        ]
        assert [task.input for task in tasks] == ["a", ("b", 2.0)]
        assert all(task.worker.startswith("free-") and "was killed by SIGKILL" in task.reason for task in tasks)
        assert all(before <= task.since <= time.time() for task in tasks)
        assert await lab.held(run=number) == await lab.held() == tasks
        assert await lab.held("probe") == ()
        with pytest.raises(UnknownMaster):
            await lab.held("fere")
        with pytest.raises(UnknownRun):
            await lab.held(run=9999)

        async with lab["free"].open(f"free by {twin}") as run:
            with pytest.raises(CallerError, match="did you mean 'retry'"):
                await run.resolve(0, "rety")
            with pytest.raises(UnknownTask, match="task 5 is not in doubt; 'taskmaster held' lists"):
                await run.resolve(5, "retry")
            with pytest.raises(UnknownTask, match="task 0 was resolved, and is in doubt again since"):
                await run.resolve(0, "retry", attempt=2)
            await run.resolve(0, "retry")
            visits.next().go()
            result = await run.results.get(PATIENCE)
            assert (result.index, result.output, result.attempt) == (0, "a", 2)
            await lab.resolve(number, 1, "done", {"by": "hand"}, attempt=1)
            result = await run.results.get(PATIENCE)
            assert (result.index, result.output) == (1, {"by": "hand"})
            with pytest.raises(UnknownTask):
                await run.resolve(1, "done", 1.0)
            assert run.open_tasks == 0

    played(daemon, twin, story)
    told = [text for text in caplog.messages if re.match("tasks? .* in doubt", text)]
    assert len(told) == 4, "both are told of both, whoever takes up the run, too"
    assert told[0].startswith(f"task 0 of run 'free by {twin}' is in doubt (")
    assert told[0].endswith(f": taskmaster resolve {number} 0 done|retry|fail")
    assert "killed by SIGKILL" in told[0]


@pytest.mark.parametrize("twin", connect)
def test_an_output_given_by_hand_is_what_the_master_declares(
    daemon: Daemon, lab: Lab, visits: Visits, twin: str
) -> None:
    runs = {name: lab[name].open(f"{name} by {twin}") for name in ("probe", "two")}
    for run in runs.values():
        assert lose(run, visits, {"x": 1}) == [0]

    async def story(lab: Any) -> None:
        number = runs["probe"].number
        with pytest.raises(InvalidOutput, match=r"output 'y' must be a number in \[0, 10\] nA, got 11"):
            await lab.resolve(number, 0, "done", 11)
        assert len(await lab.held()) == 2, "nothing has become of it"
        await lab.resolve(number, 0, "done", 9)
        await lab.resolve(runs["two"].number, 0, "done", {"y": 1, "z": -2})

    played(daemon, twin, story)
    assert runs["probe"].results.get(PATIENCE).output == 9.0
    assert runs["two"].results.get(PATIENCE).output == {"y": 1.0, "z": -2.0}


def test_what_is_in_doubt_stays_so_when_the_daemon_is_killed(start_daemon: StartDaemon, visits: Visits) -> None:
    daemon = start_daemon({"free": function("visit", env=visits.env, on_lost="hold")})
    with daemon.connect() as lab, lab["free"].open("night") as run:
        assert lose(run, visits, [1, "a"]) == [0]
        run.tasks.put("under way")
        visit = visits.next()
        before = lab.held()
        daemon.kill()
        visit.await_end()
        daemon.start()
        told, killed = eventually(lambda: _if_so_many(lab, run, 2), "both")
        assert (told,) == before
        assert (killed.index, killed.input, killed.reason) == (1, "under way", "the daemon was restarted")
        run.resolve(0, "done", 0.5)
        run.resolve(1, "retry")
        visits.next().go()
        assert {result.index: result.output for result in run.results} == {0: 0.5, 1: "under way"}
        assert lab.held() == ()


# -- the commands -----------------------------------------------------------------------------------------------------


def test_tasks_in_doubt_are_listed_and_resolved_by_command(typed: Program, lab: Lab, visits: Visits) -> None:
    assert typed("held").out == "no task is in doubt\n"
    assert typed("held", "--json").out == "[]\n"
    run = lab["probe"].open("evening")
    assert lose(run, visits, {"x": 2}, {"x": 3}) == [0, 1]
    number = str(run.number)

    said = typed("held", "probe")
    assert said.err == "say what became of one: taskmaster resolve RUN TASK done|retry|resume|fail\n"
    head, first, _ = said.out.splitlines()
    assert head.split() == ["run", "master", "task", "since", "attempt", "worker", "input", "reason"]
    assert first.split()[:3] == [number, "probe", "0"]
    assert "  x=2  " in first
    assert "was killed by SIGKILL" in first
    told = json.loads(typed("held", "--json").out)
    assert [list(task) for task in told] == [documented("Of `held`")] * 2
    assert [(task["run"], task["index"], task["input"]) for task in told] == [
        (run.number, 0, {"x": 2.0}),
        (run.number, 1, {"x": 3.0}),
    ]
    assert "Master 'probe': 2 tasks are in doubt: taskmaster held probe" in typed("status").out

    said = typed("cancel", "evening", "--all")
    assert said.out.endswith(": 0 tasks cancelled\n")
    assert said.err == (
        f"taskmaster: 2 tasks are in doubt and not cancelled: taskmaster resolve {number} 0 done|retry|fail\n"
    )
    assert json.loads(typed("cancel", "evening", "1", "--json").out)["held"] == 1
    said = typed("runs", "delete", "evening", "--yes")
    assert said.status == 1
    assert f"2 are in doubt (0, 1): resolve those first: taskmaster resolve {number} 0 done" in said.err

    said = typed("resolve", "evening", "0", "done", "--output", "4.5")
    assert (said.status, said.out) == (0, f"run {number} (probe/evening): task 0 is done\n")
    said = typed("resolve", "probe/evening", "1", "fail", "--reason", "the tip is broken", "--attempt", "1", "--json")
    assert list(json.loads(said.out)) == documented("Of `resolve`")
    first_, second = run.results.get(PATIENCE), run.results.get(PATIENCE)
    assert first_.output == 4.5
    assert isinstance(second.error, TaskFailed)
    assert (second.error.kind, second.error.args[0]) == ("Resolved", "the tip is broken")
    assert typed("resolve", number, "1", "fail").status == 8
    run.close()


def test_what_is_said_of_a_task_in_doubt_has_to_make_sense(typed: Program, lab: Lab, visits: Visits) -> None:
    run = lab["two"].open("senseless")
    assert lose(run, visits, {"x": 2}) == [0]
    number = str(run.number)
    for line, status, words in (
        (("0", "done"), 2, "done needs the --output of the task; see 'taskmaster resolve --help'"),
        (("0", "retry", "--output", "1"), 2, "retry takes no --output, done does"),
        (("0", "done", "--output", "1", "--reason", "x"), 2, "done takes no --reason, fail does"),
        (("0", "redo"), 2, "'redo' is not one of 'done', 'retry', 'resume', 'fail'"),
        (("zero", "retry"), 2, "'zero' is not a valid integer"),
        (("0", "done", "--output", "1"), 1, "'1' has 1 value, an output 2: y, z; commas part values\n"),
        (("0", "done", "--output", "y=1,z=a"), 1, "output 'z' must be a number, got 'a'"),
        (("0", "done", "--output", "11,1"), 1, "output 'y' must be a number in [0, 10] nA, got 11.0"),
        (("3", "retry"), 8, f"run {number}: task 3 is not in doubt; 'taskmaster held' lists those that are\n"),
        (("0", "fail", "--attempt", "2"), 8, "task 0 was resolved, and is in doubt again since\n"),
    ):
        said = typed("resolve", number, *line)
        assert said.status == status, line
        assert said.err.startswith("taskmaster: ")
        assert words in said.err
    said = typed("resolve", "sensless", "0", "retry")
    assert (said.status, said.err.endswith("did you mean 'senseless'?\n")) == (8, True)
    assert typed("held", "tow").status == 8
    assert typed("resolve", number, "0", "done", "--output", '{"y": 1, "z": 2}').status == 0
    assert run.results.get(PATIENCE).output == {"y": 1.0, "z": 2.0}
    run.close()


@pytest.mark.parametrize("command", ["submit", "watch", "learn"])
def test_whoever_waits_is_told_why_nothing_comes(command: str, daemon: Daemon, lab: Lab, visits: Visits) -> None:
    line = {
        "submit": ("submit", "probe", "4", "--run", command, "--wait"),
        "watch": ("watch", "probe", command),
        "learn": ("learn", "probe", "--learner", "random", "--goal", "npoints=1", "--run", command),
    }[command]
    if command == "watch":
        with lab["probe"].open(command) as run:
            run.tasks.put({"x": 4})
    with Terminal(*line, columns=200, environment={"TASKMASTER": daemon.address}) as waiting:
        visits.next().kill_worker()
        told = waiting.await_text(r"task 0 of run '\w+' is in doubt \(.*SIGKILL.*\): taskmaster resolve (\d+) 0 done")
        lab.resolve(int(told[1]), 0, "done", 4)
        assert waiting.wait() == 0
        assert waiting.text.count("in doubt") == 1
