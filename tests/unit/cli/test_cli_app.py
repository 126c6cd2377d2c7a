"""The command line as such: help, mistakes in it, errors, exit codes, and what it costs to start."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers.cli import Program, taskmaster

from taskmaster import __version__
from taskmaster.bus import errors
from taskmaster.cli.app import COMMANDS
from taskmaster.cli.base import Command, Group
from taskmaster.cli.exits import EXITS, exit_code
from taskmaster.cli.reference import commands
from taskmaster.config.shipped import companions, example, examples

#: What takes long to import, and no command needs that only says something about itself.
HEAVY = ("numpy", "zmq", "msgspec", "rich", "pydantic", "apsw", "asyncio", "taskmaster.learners", "taskmaster.daemon")


@pytest.mark.parametrize("argument", ["--help", "version", "--version"])
def test_what_is_asked_most_is_answered_at_once(argument: str) -> None:
    program = f"""
import atexit, sys
atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules]))
from taskmaster.cli import main
main([{argument!r}])"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_and_every_exit_code(typed: Program) -> None:
    said = typed("--help")
    assert said.status == 0
    for section in COMMANDS.values():
        for name, entry in section.items():
            assert f"  {name}" in said.out
            assert entry.summary in said.out
    for way in EXITS:
        assert f"  {way.code} " in said.out


@pytest.mark.parametrize(("path", "command"), commands().items())
def test_every_command_explains_itself(path: str, command: click.Command, typed: Program) -> None:
    said = typed(*path.split()[1:], "--help")
    assert said.status == 0
    assert said.out.startswith(f"Usage: {path} ")
    assert isinstance(command, Command | Group)
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.opts} lacks its help"
            assert parameter.help.endswith("."), f"{path}: {parameter.opts}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("statsu", "there is no command 'statsu'; did you mean 'status'? see 'taskmaster --help'"),
        ("runs lst", "there is no command 'lst'; did you mean 'list'? see 'taskmaster runs --help'"),
        (
            "runs zzz",
            "there is no command 'zzz'; there are 'list', 'show', 'export', 'replay', 'diff', 'fork', 'delete'; see",
        ),
        ("status --jsn", "no such option '--jsn'. Did you mean '--json'? see 'taskmaster status --help'"),
        ("serve", "missing argument 'CONFIG'; see 'taskmaster serve --help'"),
        ("status --address lab-7", "'lab-7' is no address; write tcp://HOST:PORT or ipc:///PATH"),
        ("check", "name either a configuration, or a journal by --journal; see 'taskmaster check --help'"),
        ("check a.toml --salvage new", "--salvage NEW needs to be told from where, by --journal STATE"),
        ("submit m", "name either points, or a file with --file"),
        ("submit m 1 --wiat", "no such option '--wiat'; did you mean '--wait'?"),
        ("cancel m/r", "name the numbers of tasks (3 7 10-19), or all of them with --all"),
        ("cancel m/r 1 --all", "name the numbers of tasks (3 7 10-19), or all of them with --all"),
        ("cancel m/r 9-3", "'9-3' is neither the number of a task nor a range like 10-19"),
        ("learn m --learner grid --goal npoint=3", "there is no goal 'npoint'; did you mean 'npoints'?"),
        ("learn m --learner grid --goal loss=low", "the goal loss=low needs a number; write npoints=200, loss=0.01"),
        (
            "learn m --learner grid --goal npoints=0",
            "--goal npoints=0: a goal of points must be a whole number from 1 to 9007199254740992, not 0; see",
        ),
        ("learn m --learner grid --goal until=25:99", "--goal until=25:99: a goal of time is a datetime, or text like"),
        ("learn m --learner grid --goal loss=nan", "--goal loss=nan: a goal of loss is a number, not nan; see"),
        ("simulate --learner grid --goal loss=nan", "--goal loss=nan: a goal of loss is a number, not nan; see"),
        ("simulate --learner random --goal nan", "the goal of a study is an output to reach, a number, or"),
        ("simulate --learner random --goal x", "--goal takes a number, or loss=0.01, not 'x'"),
        ("simulate --learner random --workers 0", "workers must be a whole number from 1 to"),
        ("simulate --learner random --fail 2", "fail of Failures is a probability, a number from 0 to 1, not 2.0"),
        (
            "simulate --learner random --parameter x=1",
            "--parameter x=1: write x=0,1 for real numbers from 0 to 1, n=int",
        ),
        ("simulate --learner random --parameter x=int:1,2.5", "--parameter x=int:1,2.5: write x=0,1 for real"),
        ("simulate --learner random --parameter x=1,0", "--parameter x=1,0: 'x' takes nothing: its min is 1 and its"),
        ("simulate --learner random --parameter x=a|a", "--parameter x=a|a: 'x' has the choice 'a' twice; see"),
        (
            "simulate --learner random --parameter x=a|b",
            "test function 'ackley' is over numbers within limits; parameter 'x' takes one of 'a', 'b': give a",
        ),
        (
            "simulate --learner random --latency paretto",
            "there is no law 'paretto' for --latency; did you mean 'pareto'?",
        ),
        (
            "simulate --learner random --latency slow",
            "there is no law 'slow' for --latency; there are 'constant', 'half-normal', 'exponential', 'pareto', '",
        ),
        (
            "simulate --learner random --latency pareto",
            "--latency 'pareto': write 'pareto LEAST SHAPE', in seconds; see",
        ),
        (
            "simulate --learner random --durations missing.csv --address ipc:///nowhere/control",
            "--durations missing.csv: there is no such file; nor a run of that name: no daemon listens at ipc:///nowhere",
        ),
        (
            f"simulate --learner random --durations {__file__}",
            f"--durations {__file__}: durations are read from a run that was exported, a file whose name ends in .csv",
        ),
        (
            "simulate --learner nevergrad:Foo",
            "nevergrad has no optimiser 'Foo'; in nevergrad.optimizers.registry there are ",
        ),
        (
            r"simulate --learner random\ wrap.foo=1",
            "there is no option 'wrap.foo'; around a learner (here 'random') there are 'wrap.log', 'wrap.output'",
        ),
        (r"simulate --learner random\ wrap.dedup=1s", "option 'wrap.dedup' must be yes or no, got '1s'; see"),
        (r"simulate --learner random\ wrap.dedpu=yes", "there is no option 'wrap.dedpu'; did you mean 'wrap.dedup'?"),
        (
            r"simulate --learner sobol\ wrap.log=x",
            "parameter 'x' takes a number in [0, 1]: 0.0 has no logarithm; a parameter that the learner sees",
        ),
        ("learn m --learner grid --option n", "--option takes KEY=VALUE, not 'n'"),
        ("learn m", "say what chooses the points: --learner NAME"),
        ("learn m --learner sobl", "there is no learner 'sobl'; did you mean 'sobol'?"),
        ("demo smv", "there is no demo 'smv'; did you mean 'svm'?"),
        ("config example ful", "there is no example 'ful'; did you mean 'full'?"),
        ("runs export 1 --format cvs", "cannot write format 'cvs'; did you mean 'csv'?"),
        ("runs export 1 -o run.xls", "the name of 'run.xls' does not say in which format to write; names"),
        ("runs export 1 --format netcdf", "netcdf goes to a file: name one with -o"),
        ("worker tcp://localhost:1 m -n 0", "invalid value for '-n' / '--processes': 0 is not in the range 1<=x<=1024"),
        ("top", "top draws on a terminal; use 'taskmaster status', or its --json, elsewhere"),
    ],
)
def test_a_mistake_in_the_command_line_is_said_in_one_line(line: str, message: str, typed: Program) -> None:
    said = typed(*shlex.split(line))
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"taskmaster: {message}")
    assert len(said.err.splitlines()) == 1
    assert len(said.err) < 600, "of very many names those that are near"


def test_a_name_at_the_beginning_keeps_its_capitals(typed: Program) -> None:
    said = typed("simulate", "--learner", "gp kernel=x", "--function", "branin")
    assert said.err.startswith("taskmaster: GaussianProcess has no kernel 'x'; there are 'matern', 'rbf'; see")


def test_without_a_command_there_is_the_help(typed: Program) -> None:
    said = typed()
    assert said.status == 2
    assert "The daemon:" in said.err


@pytest.mark.parametrize("address", ["ipc:///nowhere/control", "tcp://127.0.0.1:1"])
@pytest.mark.parametrize(
    "command", ["status", "submit m 1", "watch m", "pause m", "runs list", "learn m --learner grid"]
)
def test_no_daemon_is_noticed_at_once_with_the_remedy(address: str, command: str, typed: Program) -> None:
    said = typed(*command.split(), "--address", address)
    assert (said.status, said.out) == (4, "")
    assert said.err.startswith(f"taskmaster: no daemon listens at {address} (")
    assert "start one (taskmaster serve CONFIG), or say where it is (--address, $TASKMASTER)" in said.err
    assert len(said.err.splitlines()) == 1


def test_each_class_of_errors_has_its_code() -> None:
    expected = {
        errors.ConfigError: 3,
        errors.DaemonUnreachable: 4,
        errors.StateLocked: 5,
        errors.AddressInUse: 6,
        errors.JournalDamaged: 7,
        errors.UnknownMaster: 8,
        errors.UnknownRun: 8,
        errors.TaskFailed: 9,
        errors.UnknownTask: 8,
        errors.InvalidTask: 11,
        errors.DiskFull: 1,
    }
    assert {kind: exit_code(kind("text")) for kind in expected} == expected
    codes = [way.code for way in EXITS]
    assert codes == sorted(set(codes)), "each stands for one thing"


def test_debug_shows_where_an_error_comes_from(typed: Program) -> None:
    line = ["status", "--address", "tcp://127.0.0.1:1"]
    assert "Traceback" not in typed(*line).err
    said = typed(*line, "--debug")
    assert said.status == 4
    assert said.err.startswith("Traceback (most recent call last)")
    assert "Traceback" not in typed(*line).err, "it is for one command only"


def test_a_mistake_of_ours_is_a_line_too_and_says_how_to_see_it() -> None:
    program = "from taskmaster.cli import app, main; app._invoke = lambda arguments: [][1]; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "taskmaster: unexpected IndexError: list index out of range; this is a mistake in TaskMaster: run it again "
        "with --debug, and report what that shows\n"
    )


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "taskmaster", "config", "example", "full"]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_the_output_is_said() -> None:
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "taskmaster", "config", "example", "full"]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "taskmaster: cannot read or write: No space left on device\n"


def test_closed_standard_files_do_no_harm() -> None:
    line = f"{sys.executable} -m taskmaster version <&- >&- 2>&-; echo $?"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_shell_is_helped_to_complete_commands() -> None:
    said = taskmaster(_TASKMASTER_COMPLETE="bash_complete", COMP_WORDS="taskmaster wa", COMP_CWORD="1")
    assert said.out == "plain,watch\n"


def test_every_example_is_named_and_printed_with_the_files_that_it_needs(typed: Program) -> None:
    explained = typed("config", "example", "--help").out
    for name in (*examples(), *companions()):
        assert name in explained
        assert typed("config", "example", name).out == example(name).read_text(encoding="utf-8")


def test_the_versions(typed: Program) -> None:
    assert typed("version").out.startswith(f"TaskMaster {__version__} (Python 3.")
    assert typed("--version").out == f"TaskMaster {__version__}\n"


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch, typed: Program) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    typed("version", "--no-color")
    assert os.environ["NO_COLOR"] == "1", "rich and child processes hear of it there"


def test_the_program_is_installed_under_its_name(typed: Program) -> None:
    program = Path(sys.executable).with_name("taskmaster")
    if not program.exists():
        pytest.skip("TaskMaster is not installed in this environment")
    assert (
        subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout == typed("version").out
    )
