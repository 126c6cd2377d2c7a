"""What a person sees and presses: commands in a terminal, each the real program, one daemon for all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli import Terminal
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon, short_folder
from helpers.visits import Visits
from helpers.waiting import PATIENCE

from taskmaster.learners.client import Lab

CTRL_C = "\x03"


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, visits: Visits) -> Daemon:
    x = {"x": {"unit": "mm", "min": 0, "max": 10}}
    masters = {
        "square": function("square", parameters=x, outputs={"y": {"unit": "mm²"}}),
        "visit": function("visit", env=visits.env),
        "learned": function("visit", env=visits.env, parameters=x, workers=2),
        "a-master-with-quite-a-long-name": function("square_or_raise", parameters=x),
    }
    return start_shared_daemon(masters)


@pytest.fixture(autouse=True)
def address(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMASTER", daemon.address)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal(columns: int, lab: Lab) -> None:
    with lab["a-master-with-quite-a-long-name"].open("a name that goes on and on and on " * 2) as run:
        run.tasks.put({"x": 3.0})
    for line in (["status", "--workers"], ["runs", "list"]):
        with Terminal(*line, columns=columns) as terminal:
            assert terminal.wait() == 0
            table = terminal.text.partition("\n\n")[2] or terminal.text
            assert max(map(len, table.splitlines())) <= columns
            assert "\x1b[1m" in terminal.raw, "headings stand out"
    assert terminal.lines[0].split() == ["run", "master", "name", "begun", "tasks", "open", "failed", "state"]
    assert terminal.lines[1].split()[-1] in ("closing", "closed"), "no column is cut off for another's sake"


def test_a_narrow_terminal_is_enough(lab: Lab) -> None:
    """Sixty columns: workers can be told apart, results are a line each, and nothing is broken within a word."""
    with Terminal("top", "learned", columns=60) as terminal:
        names = [worker.name for worker in lab["learned"].statistics().workers]
        assert len(names) == 2
        for name in names:
            terminal.await_text(rf"\n.*{name[-5:]} +idle")
        assert "here for" not in terminal.text
        terminal.press("q")
        assert terminal.wait() == 0

    with lab["a-master-with-quite-a-long-name"].open("narrow") as run:
        run.tasks.put_many([{"x": 1.2345678}, {"x": 9.0}])
        run.results.get(PATIENCE)
        run.results.get(PATIENCE)
    with Terminal("watch", "a-master-with-quite-a-long-name", "narrow", columns=24) as terminal:
        assert terminal.wait() == 0
        assert terminal.lines[-2:] == ["0  x=1.23457  → 1.52416", "1  x=9        → 81"]
    with Terminal("status", columns=40) as terminal:
        assert terminal.wait() == 0
        facts = terminal.text.partition("\n\n")[0]
        assert max(len(line) for line in facts.splitlines() if "/" not in line) <= 40
        assert {"TaskMaster", "process", "free,", "durability", "commits"} <= set(facts.split())


def test_without_colours_there_are_none(lab: Lab) -> None:
    with lab["square"].open("colourless") as run:
        run.tasks.put({"x": 3.0})
        run.cancel()
    for options, environment in (["--no-color"], {}), ([], {"NO_COLOR": "1"}):
        with Terminal("watch", "square", "colourless", *options, environment=environment) as terminal:
            assert terminal.wait() == 0
            assert "\x1b[3" not in terminal.raw


@pytest.mark.parametrize("key", ["q", CTRL_C])
def test_top_is_drawn_anew_until_a_key_leaves_it(key: str, lab: Lab) -> None:
    with Terminal("top", "--interval", "0.1", columns=100) as terminal:
        terminal.await_text(r"square +ready +1 +0 +0 +0\.0")
        with lab["square"].open() as run:
            run.tasks.put_many([{"x": 1.0}] * 50)
            terminal.await_text(r"square +(ready|busy) +1 +\d+ +\d+ +[1-9]")
        assert "q leaves" in terminal.text
        terminal.press(key)
        assert terminal.wait() == 0
        assert terminal.raw.rindex("\x1b[?1049l") > terminal.raw.rindex("\x1b[?1049h"), "the screen is as it was before"
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l"), "and so is the cursor"


def test_top_of_one_master(lab: Lab) -> None:
    with Terminal("top", "visit") as terminal:
        terminal.await_text(r"\nvisit +ready")
        assert "square" not in terminal.text
        terminal.press("q")
        assert terminal.wait() == 0
    with Terminal("top", "vist") as terminal:
        assert terminal.wait() == 8
        assert "did you mean 'visit'?" in terminal.text


def test_watching_is_left_by_ctrl_c_and_disturbs_nothing(lab: Lab, visits: Visits) -> None:
    with lab["visit"].open("watched") as run:
        run.tasks.put_many(["first", "second"])
        with Terminal("watch", "visit") as terminal:
            visits.next().go()
            terminal.await_text("0  first  → first")
            terminal.press(CTRL_C)
            assert terminal.wait() == 130
            assert "Traceback" not in terminal.text
        visits.next().go()
        assert {result.output for result in run.results} == {"first", "second"}


def test_waiting_is_left_by_ctrl_c_and_the_tasks_stay(lab: Lab, visits: Visits) -> None:
    with Terminal("submit", "visit", "1", "2", "--wait", "--run", "left") as terminal:
        visits.next().go()
        terminal.await_text("0  1  → 1")
        second = visits.next()
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert "\n1 task will be evaluated all the same; follow: taskmaster watch visit\n" in terminal.text
    second.go()
    with Terminal("watch", "visit", "left") as terminal:
        assert terminal.wait() == 0, "the run was closed: nobody will put more"
        assert "1  2  → 2" in terminal.text


def test_waiting_is_left_by_ctrl_c_at_once_while_the_daemon_is_away(lab: Lab, daemon: Daemon, visits: Visits) -> None:
    with Terminal("submit", "visit", "1", "2", "--wait", "--run", "left-alone", columns=120) as terminal:
        visits.next().go()
        terminal.await_text("0  1  → 1")
        visits.next()
        daemon.kill()
        try:
            terminal.press(CTRL_C)
            assert terminal.wait() == 130
        finally:  # the others need it
            daemon.start()
        assert terminal.lines[-1] == (
            "the daemon does not answer; 1 task will be evaluated when it is back; follow: taskmaster watch visit"
        )
    visits.next().go()
    with lab["visit"].open("left-alone") as run:
        assert [result.output for result in run.results] == [1, 2]


def test_learning_ends_in_order_on_the_first_ctrl_c(lab: Lab, visits: Visits) -> None:
    line = ["learn", "learned", "--learner", "random", "--goal", "npoints=100", "--in-flight", "2"]
    with Terminal(*line, "--run", "first") as terminal:
        visits.next().go()
        terminal.await_text(r"1 point .*points/s")
        terminal.await_text(r"last: x=[\d.]+ → x=[\d.]+")
        under_way = [visits.next(), visits.next()]
        terminal.press(CTRL_C)
        terminal.await_text(r"stopping: waiting for what is in flight \(Ctrl-C again: leave at once\)")
        for visit in under_way:
            visit.go()
        assert terminal.wait() == 130
        assert "(learned/first): 3 points in " in terminal.text
        assert "go on with: taskmaster learn learned --run first" in " ".join(terminal.text.split())
    [run] = [run for run in lab.runs("learned") if run.name == "first"]
    assert (run.tasks, run.done, run.closed) == (3, 3, True)


def test_learning_is_left_at_once_on_the_second_ctrl_c(lab: Lab, visits: Visits) -> None:
    with Terminal("learn", "learned", "--learner", "random", "--in-flight", "1", "--run", "second") as terminal:
        visit = visits.next()
        terminal.press(CTRL_C)
        terminal.await_text("stopping")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert "left with 1 task in flight; go on with: " in terminal.text
    visit.go()
    with lab["learned"].open("second") as run:
        assert [result.index for result in run.results] == [0], "what was in flight was evaluated all the same"


def test_sigterm_ends_learning_as_ctrl_c_does(lab: Lab, visits: Visits) -> None:
    """By which a service, or a batch system, ends it: it says where it was, and that it can be gone on with."""
    line = [sys.executable, "-m", "taskmaster", "learn", "learned", "--learner", "random", "--in-flight", "1"]

    def learning(run: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*line, "--run", run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with learning("ended") as learn:
        visit = visits.next()
        learn.send_signal(signal.SIGTERM)
        assert learn.stderr is not None
        assert learn.stderr.readline() == ("stopping: waiting for what is in flight (SIGTERM again: leave at once)\n")
        visit.go()
        out, err = learn.communicate(timeout=PATIENCE)
        assert learn.returncode == 130
        assert "(learned/ended): 1 point in " in out
        assert err == "interrupted; go on with: taskmaster learn learned --run ended …\n"
    with learning("left") as learn:
        visit = visits.next()
        for _ in range(2):
            learn.send_signal(signal.SIGTERM)
            assert learn.stderr is not None
            said = learn.stderr.readline()
        assert said == "left with 1 task in flight; go on with: taskmaster learn learned --run left …\n"
        assert learn.wait(PATIENCE) == 130
    visit.go()


def test_sigterm_ends_the_question_to_a_person(lab: Lab) -> None:
    with Terminal("learn", "square", "--learner", "human", "--run", "told to end") as terminal:
        terminal.await_text("next point")
        terminal.press("2\n")
        terminal.await_text("wait for 1 in flight")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 130
        assert "(square/told to end): 1 point in" in terminal.text
        assert terminal.text.count("next point") == 2


def test_a_person_is_asked_for_points_until_they_press_ctrl_c_and_never_twice_for_the_same(lab: Lab) -> None:
    learn = ["learn", "square", "--learner", "human", "--run", "typed", "--in-flight", "2"]
    with Terminal(*learn) as terminal:
        terminal.await_text(r"next point, x \(a number in \[0, 10\] mm\); .* 0 in flight; end: no more\n> ")
        terminal.press("2\n")
        terminal.await_text("wait for 1 in flight")
        terminal.press("\n")
        terminal.await_text(r"→ 4.0\nnext point")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert terminal.text.count("next point") == 3, "they are not asked again once they have stopped it"
        assert "go on with: taskmaster learn square --run typed" in terminal.text
        assert "\x1b[2K" not in terminal.raw, "nothing is drawn over what they type"
    with Terminal(*learn) as terminal:
        terminal.await_text("next point")
        terminal.press("end\n")
        assert terminal.wait() == 0
        assert "1 point in" in terminal.text
        assert terminal.text.count("next point") == 1


def test_what_a_person_has_typed_is_evaluated_while_they_think_and_ctrl_c_loses_none_of_it(
    lab: Lab, visits: Visits
) -> None:
    learn = ["learn", "learned", "--learner", "human", "--run", "slowly-typed", "--in-flight", "4"]
    with Terminal(*learn) as terminal:
        terminal.await_text("next point")
        terminal.press("2\n")
        first = visits.next()  # and no empty line was typed, nor another point
        assert first.point == {"x": 2.0}
        terminal.await_text("wait for 1 in flight")
        terminal.press("3\n")
        second = visits.next()
        terminal.await_text("wait for 2 in flight")
        terminal.press(CTRL_C)
        terminal.await_text("stopping")
        first.go()
        second.go()
        assert terminal.wait() == 130
        assert "(learned/slowly-typed): 2 points in" in terminal.text
    with Terminal(*learn) as terminal:
        terminal.await_text("next point")
        terminal.press("4\n")
        visits.next().go()
        terminal.await_text("wait for 1 in flight")
        terminal.press("end\n")
        assert terminal.wait() == 0
        assert "3 points in" in terminal.text
    with lab["learned"].watch("slowly-typed") as run:
        assert sorted(result.input["x"] for result in run.results) == [2.0, 3.0, 4.0]
    with Terminal("runs", "replay", "slowly-typed", "--learner", "human") as terminal:
        assert terminal.wait() == 0
        assert "next point" not in terminal.text, "nobody is asked"


def test_deleting_asks_on_a_terminal(lab: Lab) -> None:
    for name in ("kept", "given-away"):
        with lab["square"].open(name) as run:
            run.tasks.put({"x": 1.0})
            run.results.get(PATIENCE)
    with Terminal("runs", "delete", "kept") as terminal:
        terminal.await_text(r"square/kept: 1 task, begun .*\nDelete it for good\? \[y/N\]: ")
        terminal.press("n\n")
        assert terminal.wait() == 130
    with Terminal("runs", "delete", "given-away") as terminal:
        terminal.await_text(r"\[y/N\]: ")
        terminal.press("y\n")
        assert terminal.wait() == 0
        assert "(square/given-away) is deleted" in terminal.text
    assert {run.name for run in lab.runs("square")} & {"kept", "given-away"} == {"kept"}


def test_the_output_of_watch_reaches_a_pipe_line_by_line(lab: Lab, visits: Visits, tmp_path: Path) -> None:
    with lab["visit"].open("piped") as run:
        run.tasks.put_many(["first", "second"])
        line = [sys.executable, "-m", "taskmaster", "watch", "visit", "piped", "--json"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            visits.next().go()
            assert '"output":"first"' in watch.stdout.readline(), "at once, not when a buffer is full"
            watch.stdout.close()
            visits.next().go()
            assert watch.wait(PATIENCE) == 141, "who reads no more ends it"
