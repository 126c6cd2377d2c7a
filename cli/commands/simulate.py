"""``taskmaster simulate``: compare learners in virtual time."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from taskmaster.bus.errors import CallerError, DaemonUnreachable, UnknownMaster, UnknownRun
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or, parse_duration
from taskmaster.cli.base import Command, address_option, end_of_line, json_option, notes_of, sentences
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.exits import INTERRUPTED, OK
from taskmaster.cli.learners import named_with_options, pair, require_learner
from taskmaster.cli.output import Table, count, figure, print_json, print_table, say
from taskmaster.drivers.functions import find_function
from taskmaster.learners import goals
from taskmaster.learners.declared import as_fields
from taskmaster.learners.goals import Goal
from taskmaster.learners.options import literal
from taskmaster.learners.protocol import bind
from taskmaster.learners.record import SeveralOutputs
from taskmaster.learners.registry import create, rehearse
from taskmaster.learners.simulate import Constant, Exponential, Failures, HalfNormal, OfPoint, Pareto, Recorded
from taskmaster.learners.simulate.functions import FUNCTIONS, over
from taskmaster.learners.simulate.latency import Latency
from taskmaster.learners.simulate.plot import require_plot
from taskmaster.learners.simulate.recorded import durations_in, durations_of
from taskmaster.learners.simulate.study import HEADINGS, MakeLearner, Study, Trial, goal_text, study

__all__ = ["command"]

#: law → how it is made of its figures, and what those are
_LAWS: Mapping[str, tuple[Callable[..., Latency], str]] = {
    "constant": (Constant, "SECONDS"),
    "half-normal": (HalfNormal, "MEAN [LEAST]"),
    "exponential": (Exponential, "MEAN [LEAST]"),
    "pareto": (Pareto, "LEAST SHAPE"),
}
_LAWS_TEXT = ", ".join(f"'{law} {figures}'" for law, (_, figures) in _LAWS.items())
#: How the values of a parameter are written.
_VALUES_TEXT = "x=0,1 for real numbers from 0 to 1, n=int:1,10 for whole ones, 'kind=a|b|c' for choices"
#: What stands before the limits of whole numbers, and between choices.
_WHOLE, _OR = "int:", "|"


@click.command("simulate", cls=Command)
@click.option(
    "--learner", "wanted", metavar="'NAME [KEY=VALUE …]'", multiple=True, required=True,
    help="A learner with its options: one of 'taskmaster learn --list', or MODULE:CLASS; repeatable.",
)  # fmt: skip
@click.option(
    "--function", "function", metavar="NAME", default="ackley",
    help=f"What is learnt: MODULE:NAME, or one of {', '.join(FUNCTIONS)}; by default ackley.",
)  # fmt: skip
@click.option("--path", metavar="FOLDER", default=".", help="Where a MODULE is; by default here.")
@click.option(
    "--parameter", "parameters", metavar="NAME=VALUES", multiple=True,
    help=f"A parameter, repeatable: {_VALUES_TEXT}. By default x and y, from 0 to 1.",
)  # fmt: skip
@click.option("--master", metavar="MASTER", help="Take the parameters and outputs of this Master of a daemon.")
@click.option("--workers", metavar="N[,N …]", default="8", help="Numbers of workers to compare; by default 8.")
@click.option(
    "--in-flight", metavar="N", type=click.IntRange(1),
    help="Tasks in flight for each worker; by default two, or one for learners that learn much from each.",
)  # fmt: skip
@click.option("--seeds", metavar="N", type=click.IntRange(1), default=10, help="Trials of each, by default 10.")
@click.option(
    "--evaluations", metavar="N", type=click.IntRange(1), default=100, help="Of each trial at most, by default 100."
)
@click.option(
    "--goal", metavar="VALUE", help="An output to reach, or loss=VALUE: time and evaluations to it are shown."
)
@click.option("--maximize", is_flag=True, help="More is better; by default less is.")
@click.option("--output", metavar="NAME", help="The output that counts, where there are several.")
@click.option(
    "--latency", "law", metavar="LAW", default="half-normal 60",
    help=f"How long evaluations take: {_LAWS_TEXT}, or MODULE:NAME, the seconds as a function of the point; "
    "by default 'half-normal 60'.",
)  # fmt: skip
@click.option("--durations", metavar="RUN|FILE", help="The durations of a real run, of the daemon or as exported.")
@click.option("--fail", metavar="P", type=float, default=0.0, help="The probability that an evaluation fails.")
@click.option("--lost", metavar="P", type=float, default=0.0, help="The probability that an answer is lost.")
@click.option("--late", metavar="P", type=float, default=0.0, help="The probability that an answer is a minute late.")
@click.option("--lifetime", metavar="TIME", help="How long a worker works before it dies, on average: '20 h'.")
@click.option("--thinking", is_flag=True, help="Count the time in which the learner thinks; as measured here.")
@click.option("--plot", metavar="FILE", help="Draw the best so far against time: a PNG, PDF or SVG.")
@address_option
@json_option
def command(
    wanted: tuple[str, ...],
    function: str,
    path: str,
    parameters: tuple[str, ...],
    master: str | None,
    workers: str,
    in_flight: int | None,
    seeds: int,
    evaluations: int,
    goal: str | None,
    maximize: bool,
    output: str | None,
    law: str,
    durations: str | None,
    fail: float,
    lost: float,
    late: float,
    lifetime: str | None,
    thinking: bool,
    plot: str | None,
    address: str | None,
    as_json: bool,
) -> int:
    """Compare learners on a function, in a simulated laboratory.

    Time is virtual: a thousand hours take seconds. Each learner is tried with each number of workers and the same
    seeds, and the table shows medians over them. The same command prints the same table. Ctrl-C leaves at once, with a
    table of the trials that have ended.
    """
    fields, outputs = _declared(master, parameters, address)
    numbers = _counts(workers)
    aim = _goal(goal)
    with _refusing(output, maximize=maximize):
        learners = dict(_learner(text, path, fields, outputs, is_alone=len(wanted) == 1) for text in wanted)
    latency = _recorded(durations, address) if durations is not None else _latency(law, path)
    found = _function(function, path, fields)
    if plot is not None:
        _require_plot(plot)
    total = len(learners) * len(numbers) * seeds
    ended: list[Trial] = []
    is_interrupted = False
    try:
        with _refusing(output, maximize=maximize), _progress(total, ended) as on_trial:
            study(
                learners,
                found,
                fields,
                goal=aim,
                evaluations=evaluations,
                seeds=seeds,
                workers=numbers,
                latency=latency,
                failures=Failures(fail, _lifetime(lifetime), lost=lost, late=late),
                thinking=thinking,
                outputs=outputs,
                output=output,
                minimize=not maximize,
                in_flight=in_flight,
                on_trial=on_trial,
            )
    except KeyboardInterrupt:
        end_of_line()
        click.echo(f"interrupted after {len(ended)} of {count(total, 'trial')}", err=True)
        if not ended:
            return INTERRUPTED
        is_interrupted = True
    seen = Study(ended, goal_text(aim, minimize=not maximize), not maximize)
    if plot is not None:
        seen.plot(plot)
    _print(seen, function, latency, as_json=as_json)
    if plot is not None and not as_json:
        say(f"{plot}: {count(len(seen.trials), 'trial')}")
    return INTERRUPTED if is_interrupted else OK


def _require_plot(file: str) -> None:
    try:
        require_plot(file)
    except CallerError as error:
        raise click.UsageError(str(error)) from None


@contextlib.contextmanager
def _progress(total: int, ended: list[Trial]) -> Iterator[Callable[[Trial], object]]:
    """What is to be called after each trial, which is added to those that have ``ended``, and shown to who looks on."""
    if not sys.stderr.isatty():
        yield ended.append
        return
    with click.progressbar(length=total, label="trials", file=sys.stderr) as bar:

        def on_trial(trial: Trial) -> None:
            ended.append(trial)
            bar.update(1)

        yield on_trial


def _print(seen: Study, function: str, latency: Latency, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {name: figure(value) if isinstance(value, float) else value for name, value in asdict(row).items()}
            for row in seen.rows()
        ]
        print_json({"function": function, "goal": seen.goal, "latency": repr(latency), "rows": rows})
        return
    print_table(
        Table([HEADINGS[0], *(f">{heading}" for heading in HEADINGS[1:])], [row.cells() for row in seen.rows()])
    )


# -- what is given as text --------------------------------------------------------------------------------------------


def _learner(
    text: str, path: str, parameters: Sequence[Field], outputs: Sequence[Field], *, is_alone: bool
) -> tuple[str, MakeLearner]:
    """What it is called in the table, and how it is made. Raises CallerError naming it, unless it ``is_alone``."""
    name, options = named_with_options(text)
    require_learner(name, path)
    given = dict(pair(option, "an option of a learner") for option in options)
    try:
        rehearse(name, parameters, outputs, given)
        bind(create(name, parameters, outputs, None, given), parameters, outputs)
    except CallerError as error:
        if not is_alone or isinstance(error, SeveralOutputs):
            error.add_note(f"That was learner {text!r}.")
        raise
    return text, lambda fields, outputs: create(name, fields, outputs, None, given)


@contextlib.contextmanager
def _refusing(output: str | None, *, maximize: bool) -> Iterator[None]:
    """Say what is asked for and cannot be."""
    try:
        yield
    except CallerError as error:
        said = sentences(str(error), notes_of(error))
        if isinstance(error, SeveralOutputs) and output is not None:
            aim = f"{'maximize' if maximize else 'minimize'}={output}"
            said += f" --output says what the table compares; what a learner learns its options say: 'NAME {aim}'"
        raise click.UsageError(said.removesuffix(".")) from None


def _declared(
    master: str | None, parameters: Sequence[str], address: str | None
) -> tuple[Sequence[Field], Sequence[Field]]:
    if master is not None:
        if parameters:
            raise click.UsageError("give --master or --parameter, not both")
        with connected(address) as lab:
            chosen = lab[master]
            return chosen.parameters, chosen.outputs
    values = dict(pair(text, "--parameter") for text in parameters) or {"x": "0,1", "y": "0,1"}
    return [_field(name, text) for name, text in values.items()], ()


def _field(name: str, text: str) -> Field:
    """A parameter of what stands behind its name. Raises UsageError."""
    try:
        (field,) = as_fields({name: _values(text)})
    except ValueError:
        raise click.UsageError(f"--parameter {name}={text}: write {_VALUES_TEXT}") from None
    except CallerError as error:
        raise click.UsageError(f"--parameter {name}={text}: {error}") from None
    return field


def _values(text: str) -> list[Any] | tuple[float, float] | Mapping[str, Any]:
    """Raises ValueError."""
    if _OR in text:
        words = [word.strip() for word in text.split(_OR)]
        read = [literal(word) for word in words]
        return read if all(isinstance(value, (bool, int, float)) for value in read) else words
    read_one, text = (int, text.removeprefix(_WHOLE)) if text.startswith(_WHOLE) else (float, text)
    low, high = map(read_one, text.split(","))
    return {"kind": "int", "min": low, "max": high} if read_one is int else (low, high)


def _function(name: str, path: str, fields: Sequence[Field]) -> Callable[[Any], Any]:
    if ":" in name:
        return find_function(name, [os.path.abspath(path)])
    try:
        return over(name, fields)
    except CallerError as error:
        raise click.UsageError(str(error)) from None


def _latency(text: str, path: str) -> Latency:
    law, *figures = text.split() or [""]
    if _is_law_with_colon(law):
        raise click.UsageError(f"--latency {text!r}: write {_LAWS_TEXT}, in seconds, or MODULE:NAME")
    if ":" in law and not figures:
        return OfPoint(find_function(law, [os.path.abspath(path)]))
    if law not in _LAWS:
        hint = did_you_mean_or(law, [*_LAWS, "MODULE:NAME"])
        raise click.UsageError(f"there is no law {law!r} for --latency{hint}")
    make, expected = _LAWS[law]
    try:
        return make(*map(float, figures))
    except CallerError as error:
        raise click.UsageError(str(error)) from None
    except (TypeError, ValueError):
        raise click.UsageError(f"--latency {text!r}: write '{law} {expected}', in seconds") from None


def _is_law_with_colon(text: str) -> bool:
    """Whether this is like ``half-normal:60``, which no function is called."""
    law, _, figure = text.partition(":")
    return bool(figure) and (law in _LAWS or (not figure.isidentifier() and "." not in law))


def _recorded(text: str, address: str | None) -> Latency:
    try:
        if os.path.exists(text):
            return Recorded(durations_in(text))
        with connected(address) as lab:
            return Recorded(durations_of(lab, find_run(lab, text)))
    except (DaemonUnreachable, UnknownRun, UnknownMaster) as error:
        if not os.path.splitext(text)[1][1:].isalpha():
            raise
        raise click.UsageError(f"--durations {text}: there is no such file; nor a run of that name: {error}") from None
    except CallerError as error:
        raise click.UsageError(f"--durations {text}: {error}") from None


def _lifetime(text: str | None) -> float:
    try:
        return math.inf if text is None else parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--lifetime: {error}") from None


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--workers takes numbers like 8 or 1,4,8, not {text!r}") from None


def _goal(text: str | None) -> float | Goal | None:
    if text is None:
        return None
    kind, equals, value = text.partition("=")
    try:
        if not equals:
            return float(kind)
        if kind.strip() == "loss":
            return goals.loss(float(value))
    except CallerError as error:
        raise click.UsageError(f"--goal {text}: {error}") from None
    except ValueError:
        pass
    raise click.UsageError(f"--goal takes a number, or loss=0.01, not {text!r}")
