"""People at work: requests taken and answered by both clients and at a terminal, tasks approved; through kills, too."""

from __future__ import annotations

import asyncio
import getpass
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from helpers.cli import Program, Terminal
from helpers.daemon import Daemon, function
from helpers.documents import document, section, tables
from helpers.places import StartDaemon
from helpers.twins import connect
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, Conflict, Full, InvalidOutput, InvalidTask, NotAllowed, UnknownTask
from taskmaster.bus.status import ProposedTask
from taskmaster.learners.client import Lab, Run
from taskmaster.learners.loop import Loop

CLI = document("docs/cli.md")
SCALE = {
    "driver": "human",
    "question": "Weigh the sample.",
    "people": 2,
    "parameters": {"sample": {"kind": "int", "min": 1}},
    "outputs": {"mass": {"unit": "mg", "min": 0, "max": 5000}, "colour": {"choices": ["red", "green"]}},
}
LASER = {**function("square"), "approval": True, "parameters": {"x": {"min": 0, "max": 10}}, "outputs": {"y": {}}}
ANSWER = {"mass": 1.5, "colour": "red"}
CTRL_C = "\x03"


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"scale": SCALE, "laser": LASER})


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab
        for run in lab.runs():  # what a test has left over is nobody's business in the next
            with lab[run.master].open(run.name, since="now") as writer:
                writer.cancel()


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


def put(lab: Lab, name: str, *samples: int) -> Run:
    run = lab["scale"].open(name)
    run.tasks.put_many([{"sample": sample} for sample in samples])
    run.flush()
    return run


def play(address: str, twin: str, story: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Tell ``story`` with a connection of this client."""

    async def told() -> None:
        async with connect[twin](address, PATIENCE) as lab:
            await asyncio.wait_for(story(lab), 2 * PATIENCE)

    asyncio.run(told())


def documented(heading: str) -> list[str]:
    """The keys in a table of docs/cli.md."""
    [table] = tables(section(CLI, heading))
    return [row[0] for row in table]


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", connect)
def test_people_take_requests_and_answer_them(daemon: Daemon, lab: Lab, twin: str) -> None:
    run = put(lab, f"by {twin}", 1, 2, 3)

    async def story(lab: Any) -> None:
        scale = lab["scale"]
        assert (scale.question, scale.approval) == ("Weigh the sample.", False)
        assert (await scale.statistics()).state == "waiting for people"
        assert [(one.index, one.input) for one in await scale.requests()] == [(k, {"sample": k + 1}) for k in range(3)]
        mine, his = await scale.claim(who="ada"), await scale.claim((run.number, 2), who="bob")
        assert (mine.index, his.index) == (0, 2)
        with pytest.raises(Full):
            await scale.claim()
        with pytest.raises(Conflict, match="taken by ada"):
            await scale.answer((run.number, 0), ANSWER, who="bob")
        with pytest.raises(InvalidOutput, match=r"'mass' must be a number in \[0, 5000\] mg, got -1"):
            await scale.answer(mine, {"mass": -1, "colour": "red"})
        with pytest.raises(InvalidOutput, match="must be a dict of mass, colour"):
            await scale.answer(mine, 1.5)
        await scale.answer(mine, ANSWER, who="ada")
        await scale.answer(mine, ANSWER, who="ada")
        with pytest.raises(Conflict, match="has been answered by ada"):
            await scale.answer(mine, {"mass": 2, "colour": "red"}, who="ada")
        with pytest.raises(CallerError, match="say why it cannot be done"):
            await scale.refuse(his, "")
        await scale.refuse(his, "it is gone", who="bob")
        again = await scale.claim(who="ada", seconds=100)
        assert [await scale.release(again), await scale.release(again)] == [True, False]
        with pytest.raises(CallerError, match="only what claim"):
            await scale.release((run.number, 1))
        with pytest.raises(UnknownTask):
            await scale.claim((run.number, 7))
        with pytest.raises(NotAllowed):
            await lab["laser"].claim()
        assert len(await lab.requests()) == len(await lab.requests("scale")) == 1

    play(daemon.address, twin, story)
    done, failed = run.results.get(PATIENCE), run.results.get(PATIENCE)
    assert (done.output, done.worker) == (ANSWER, "human:ada")
    assert done.finished >= done.started
    assert (str(failed.error), failed.worker) == ("CannotBeDone: it is gone", "human:bob")


@pytest.mark.parametrize("twin", connect)
def test_whoever_follows_sees_requests_come_and_go(daemon: Daemon, lab: Lab, twin: str) -> None:
    seen: list[tuple[tuple[int, str], ...]] = []
    changed = threading.Condition()

    async def story(lab: Any) -> None:
        async for requests in lab["scale"].follow_requests():
            with changed:
                seen.append(tuple((one.index, one.claimed) for one in requests))
                changed.notify()
            if len(seen) > 1 and not requests:
                return

    def await_sight(state: Sequence[tuple[int, str]]) -> None:
        with changed:
            assert changed.wait_for(lambda: tuple(state) in seen, PATIENCE), seen

    follower = threading.Thread(target=play, args=(daemon.address, twin, story))
    follower.start()
    await_sight([])
    put(lab, f"followed by {twin}", 1)
    await_sight([(0, "")])
    request = lab["scale"].claim(who="eve")
    await_sight([(0, "eve")])
    assert request is not None
    lab["scale"].answer(request, ANSWER, who="eve")
    follower.join(PATIENCE)
    assert not follower.is_alive()


def test_a_claim_and_its_answer_outlive_the_daemon_that_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"scale": SCALE})
    with daemon.connect() as lab:
        run, scale = put(lab, "night", 1, 2), lab["scale"]
        mine = scale.claim(who="ada")
        assert mine is not None
        daemon.restart()
        assert [(one.index, one.claimed) for one in scale.requests()] == [(0, "ada"), (1, "")]
        assert not daemon.workers(), "nobody is started for people"
        scale.answer(mine, ANSWER, who="ada")
        daemon.restart()
        scale.answer(mine, ANSWER, who="ada")  # whoever does not know whether it has arrived
        with pytest.raises(Conflict):
            scale.answer(mine, {**ANSWER, "mass": 2}, who="ada")
        assert run.results.get(PATIENCE).output == ANSWER
        assert daemon.stop() == 0, "nobody waits for people"
        daemon.start()
        assert [one.index for one in scale.requests()] == [1]


def test_what_was_left_for_too_long_is_taken_by_somebody_else(lab: Lab) -> None:
    run, scale = put(lab, "slow", 1), lab["scale"]
    mine = scale.claim(seconds=0.2, who="ada")
    assert mine is not None
    eventually(lambda: not scale.requests()[0].claimed, "it expires by itself")
    his = scale.claim(who="bob")
    assert his is not None
    with pytest.raises(Conflict, match="taken by bob"):
        scale.answer(mine, ANSWER, who="ada")
    scale.release(his)
    scale.answer(mine, ANSWER, who="ada")
    assert run.results.get(PATIENCE).worker == "human:ada"


# -- at the terminal --------------------------------------------------------------------------------------------------


def test_requests_are_answered_at_the_terminal(daemon: Daemon, lab: Lab) -> None:
    run = put(lab, "evening", 3, 4, 5)
    with Terminal("answer", "scale", "--as", "ada", columns=120, environment={"TASKMASTER": daemon.address}) as desk:
        desk.await_text(
            r"Weigh the sample\.\n  task 0 of run \d+ \(evening\).*; yours until \d\d:\d\d:\d\d\n  sample  3\n"
        )
        desk.await_text(r"mass \(a number in \[0, 5000\] mg\): $")
        desk.press("9000\n")
        desk.await_text(r"output 'mass' must be a number in \[0, 5000\] mg, got 9000\.0\nmass .*: $")
        desk.press("heavy\n")
        desk.await_text(r"must be a number in \[0, 5000\] mg, got 'heavy'\nmass .*: $")
        desk.press("\n")
        desk.await_text(r"skip: leave it to others; cannot: it cannot be done")
        desk.press("1.5\n")
        desk.await_text(r"colour \(one of 'red', 'green'\): $")
        desk.press("red\n")
        assert run.results.get(PATIENCE).output == ANSWER

        desk.await_text(r"task 1 of run .*\n  sample  4\nmass .*: $")
        desk.press("skip\n")
        desk.await_text(r"task 2 of run .*\n  sample  5\nmass .*: $")
        desk.press("cannot\n")
        desk.await_text(r"why not: $")
        desk.press("it is broken\n")
        assert str(run.results.get(PATIENCE).error) == "CannotBeDone: it is broken"

        desk.await_text(
            r"nothing waits for an answer but what was skipped\nwaiting for the next request; Ctrl-C leaves"
        )
        run.tasks.put({"sample": 6})
        desk.await_text(r"task 3 of run .*\n  sample  6\nmass .*: $")
        assert lab["scale"].requests()[1].claimed == "ada"
        desk.press(CTRL_C)
        assert desk.wait() == 130
    assert [(one.index, one.claimed) for one in lab["scale"].requests()] == [(1, ""), (3, "")]


def test_what_was_typed_is_not_lost_where_it_comes_too_late(daemon: Daemon, lab: Lab) -> None:
    run = put(lab, "late", 3)
    line = ("answer", "scale", "late", "0", "--as", "ada")
    with Terminal(*line, columns=120, environment={"TASKMASTER": daemon.address}) as desk:
        desk.await_text("mass .*: $")
        run.cancel()
        desk.press("1.5\n")
        desk.await_text("colour .*: $")
        desk.press("red\n")
        assert desk.wait() == 0
        assert "task 0 was cancelled; this answer was not taken; you had entered mass=1.5 colour=red" in desk.text


def test_requests_are_listed_and_answered_in_a_line(typed: Program, lab: Lab) -> None:
    assert typed("requests").out == "nothing waits for an answer\n"
    run = put(lab, "noon", 1, 2)
    number = str(run.number)
    lab["scale"].claim(who="bob")
    said = typed("requests", "scale")
    assert said.err == "answer them: taskmaster answer MASTER\n"
    head, first, second = said.out.splitlines()
    assert head.split() == ["run", "master", "task", "since", "taken", "by", "until", "input"]
    assert (first.split()[:3], "bob" in first, "sample=1" in first) == ([number, "scale", "0"], True, True)
    assert "bob" not in second
    told = json.loads(typed("requests", "--json").out)
    assert [list(one) for one in told] == [documented("Of `requests`")] * 2
    assert "Master 'scale': 1 request waits for people: taskmaster answer scale" in typed("status").out

    for line, status, words in (
        ((), 2, "there is no terminal to ask at: name RUN, INDEX and OUTPUT"),
        (("noon",), 2, "name both the run and the number of the task"),
        (("noon", "1", "mass=1", "--cannot", "x"), 2, "not both"),
        (("noon", "1", "mass=1"), 1, "output 'colour' is missing"),
        (("noon", "1", "mass=1", "colour=blue"), 1, "output 'colour' must be one of 'red', 'green', got 'blue'"),
        (("noon", "1", "mass=1", "color=red"), 1, "output 'color' is unknown; did you mean 'colour'?"),
        (("noon", "0", "mass=1", "colour=red"), 1, "task 0 has been taken by bob"),
        (("noon", "9", "mass=1", "colour=red"), 8, "task 9 waits for nobody"),
    ):
        said = typed("answer", "scale", *line)
        assert (said.status, words in said.err) == (status, True), (line, said.err)
    said = typed("answer", "scale", "noon", "1", "mass=1.5", "colour=red", "--json")
    assert (said.status, list(json.loads(said.out))) == (0, documented("Of `answer`"))
    assert typed("answer", "scale", number, "0", "--as", "bob", "--cannot", "gone").out.endswith("task 0 has failed\n")
    results = [run.results.get(PATIENCE) for _ in range(2)]
    assert [result.worker for result in results] == [f"human:{getpass.getuser()}", "human:bob"]


# -- approval ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", connect)
def test_nothing_is_evaluated_before_somebody_has_approved_it(daemon: Daemon, lab: Lab, twin: str) -> None:
    run = lab["laser"].open(f"approved by {twin}")
    run.tasks.put_many([{"x": float(x)} for x in range(6)])
    run.flush()
    number = run.number

    async def story(lab: Any) -> None:
        assert lab["laser"].approval
        assert [(task.index, task.input) for task in await lab.proposed(run=number)] == [
            (k, {"x": float(k)}) for k in range(6)
        ]
        assert len(await lab.proposed("laser", limit=2)) == 2
        with pytest.raises(InvalidTask, match=r"'x' must be a number in \[0, 10\], got 11"):
            await lab.edit(number, 3, {"x": 11})
        with pytest.raises(UnknownTask, match="task 9 is not proposed"):
            await lab.edit(number, 9, {"x": 1})
        await lab.edit(number, 3, {"x": 9}, who="bob")
        assert await lab.reject(number, [0, 1], reason="too dim", who="bob") == 2
        assert await lab.approve(number, [2, 0], who="ada") == 1
        assert await lab.approve(number, who="ada") == 3
        assert await lab.proposed() == ()

    play(daemon.address, twin, story)
    results = {result.index: result for result in (run.results.get(PATIENCE) for _ in range(6))}
    assert str(results[0].error) == "Rejected: by bob: too dim"
    assert {k: results[k].output for k in range(2, 6)} == {2: 4.0, 3: 81.0, 4: 16.0, 5: 25.0}
    assert [k for k in results if results[k].is_edited] == [3]
    assert results[3].input == {"x": 9.0}, "who has put it is told what was evaluated"
    assert len(run._core._inputs) == 0, "and keeps nothing of what was not"
    with lab["laser"].watch(run.name) as watcher:
        assert [watcher.results.get(PATIENCE).is_edited for _ in range(6)].count(True) == 1


def proposal(lab: Lab, index: int) -> list[ProposedTask]:
    return [task for task in lab.proposed("laser") if task.index == index]


class Staircase:
    """Asks 1, 2, 3, … and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, Any]] = []
        self._next = 0.0

    def ask(self, n: int) -> list[dict[str, float]]:
        self._next += 1.0
        return [{"x": self._next}]

    def tell(self, point: dict[str, float], output: Any) -> None:
        self.told.append(("tell", point["x"], output))

    def fail(self, point: dict[str, float], error: BaseException) -> None:
        self.told.append(("fail", point["x"], getattr(error, "kind", "")))


def test_a_learner_is_told_what_was_measured_and_resumes_as_it_was(
    start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon({"laser": LASER})

    def decide() -> None:
        with daemon.connect() as lab:
            for index in range(4):
                (task,) = eventually(partial(proposal, lab, index), "a proposal")
                if index == 1:
                    lab.edit(task.run, 1, {"x": 7})
                    daemon.restart()
                if index == 2:
                    lab.reject(task.run, [index])
                else:
                    lab.approve(task.run, [index], who="ada")

    with daemon.connect() as lab:
        learner, people = Staircase(), threading.Thread(target=decide)
        people.start()
        Loop(lab["laser"], learner, goal=3, in_flight=1, name="climb").run()
        people.join()
        expected = [("tell", 1.0, 1.0), ("fail", 2.0, "Edited"), ("tell", 7.0, 49.0), ("fail", 3.0, "Rejected")]
        assert learner.told == [*expected, ("tell", 4.0, 16.0)]
        daemon.restart()
        again = Staircase()
        Loop(lab["laser"], again, goal=3, in_flight=1, name="climb").run()
        assert again.told == learner.told, "it is replayed exactly"
        assert not [text for text in caplog.messages if "the learner now asks" in text]


def test_proposed_tasks_are_decided_on_by_command(typed: Program, lab: Lab) -> None:
    assert typed("proposed").out == "no task waits for approval\n"
    said = typed("submit", "laser", "1", "2", "3", "4", "--run", "day")
    assert said.err == "taskmaster: its tasks wait: Master 'laser' has them approved first: taskmaster proposed laser\n"
    said = typed("proposed", "laser")
    assert said.err == "decide: taskmaster approve|reject RUN [TASK|FIRST-LAST]...|--all\n"
    assert said.out.splitlines()[0].split() == ["run", "master", "task", "since", "edited", "by", "input"]
    assert "Master 'laser': 4 tasks wait for approval: taskmaster proposed laser" in typed("status").out
    assert "4 waiting for approval" in typed("runs", "show", "day").out
    assert "proposed" in typed("runs", "list").out
    for line, status, words in (
        (("approve", "day"), 2, "name the numbers of tasks (3 7 10-19), or all that are proposed with --all"),
        (("approve", "day", "9"), 8, "has no task 9: it has 4 tasks"),
        (("edit", "day", "9", "x=1"), 8, "task 9 does not wait for approval"),
        (("edit", "day", "1", "x=11"), 11, "parameter 'x' must be a number in [0, 10], got 11.0"),
        (("edit", "day", "1", "z=1"), 11, "parameter 'z' is unknown"),
    ):
        said = typed(*line)
        assert (said.status, words in said.err) == (status, True), (line, said.err)
    edited = json.loads(typed("edit", "day", "1", "x=5", "--as", "bob", "--json").out)
    assert edited["input"] == {"x": 5.0}
    told = json.loads(typed("proposed", "--json").out)
    assert [list(task) for task in told] == [documented("Of `proposed`")] * 4
    assert (told[1]["input"], told[1]["edits"], told[1]["edited_by"]) == ({"x": 5.0}, 1, "bob")
    assert json.loads(typed("reject", "day", "0", "--reason", "no", "--json").out)["rejected"] == 1
    why = "not proposed: decided on before, or cancelled, or never in need of it"
    assert typed("approve", "day", "0-1").out.endswith(f"(laser/day): 1 task approved; the other 1 is {why}\n")
    assert typed("approve", "day", "0-1", "1").out.endswith(f"(laser/day): nothing was approved: all 2 are {why}\n")
    assert typed("approve", "laser/day", "--all").out.endswith(": 2 tasks approved\n")
    assert typed("approve", "laser/day", "--all").out.endswith(": no task waits for approval, none was approved\n")
    with lab["laser"].watch("day") as run:
        outcomes = {result.index: result.outcome for result in (run.results.get(PATIENCE) for _ in range(4))}
    assert outcomes == {0: "failed", 1: "done", 2: "done", 3: "done"}
