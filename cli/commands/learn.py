"""``taskmaster learn``: have a learner choose the points."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import did_you_mean, format_duration, parse_duration
from taskmaster.cli.authors import Authors, named
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.bests import Best, bests_of
from taskmaster.cli.connecting import connected, in_master, require_workers, warn_if_idle
from taskmaster.cli.exits import INTERRUPTED, OK
from taskmaster.cli.learners import PATH_HELP, chosen, made, pair, require_learner
from taskmaster.cli.output import count, figure, number, print_json, say, value_text
from taskmaster.cli.progress import LoopView, stopping_in_order
from taskmaster.learners import goals
from taskmaster.learners.client import Master
from taskmaster.learners.export.plain import plain
from taskmaster.learners.goals import Goal
from taskmaster.learners.loop import MAX_FAILURES, Loop
from taskmaster.learners.looping.figures import mishaps_text
from taskmaster.learners.protocol import Learner, Recalling
from taskmaster.learners.registry import factory, names

__all__ = ["command"]

_GOALS: Mapping[str, tuple[Callable[[Any], Goal], Callable[[str], Any]]] = {
    "npoints": (goals.npoints, int),
    "loss": (goals.loss, float),
    "seconds": (goals.seconds, parse_duration),
    "until": (goals.until, str),
}
_GOALS_TEXT = "npoints=200, loss=0.01, seconds=60 or until=18:00"


@click.command("learn", cls=Command)
@click.argument("master")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--learner",
    "learner_name",
    metavar="NAME",
    help="What chooses the points: one of --list, or MODULE:CLASS. By default that of the run, as it is recorded.",
)
@click.option(
    "--option", "options", metavar="KEY=VALUE", multiple=True,
    help="An option of the learner, as those after MASTER; repeatable.",
)  # fmt: skip
@click.option("--path", metavar="FOLDER", default=".", help=PATH_HELP)
@click.option(
    "--goal", "wanted", metavar="WHAT=VALUE", multiple=True,
    help=f"When to stop: {_GOALS_TEXT}. Of several, the first reached. By default when the learner has no more.",
)  # fmt: skip
@click.option("--run", "run_name", metavar="NAME", help="The run to do it in: a new one, or one to go on with.")
@click.option(
    "--take-over", is_flag=True,
    help="Go on with a run of another learner, or of other options, all the same; from which task on is recorded.",
)  # fmt: skip
@click.option("--seed", metavar="N", type=click.IntRange(0), help="Of a new run, for what is random in the learner.")
@click.option(
    "--in-flight", metavar="N", type=click.IntRange(1),
    help="Tasks to keep in flight; by default two for each slot, or one for learners that learn much from each.",
)  # fmt: skip
@click.option(
    "--retries", metavar="N", type=click.IntRange(0), default=0,
    help="How often a point that failed is put again.",
)  # fmt: skip
@click.option(
    "--nan", type=click.Choice(["tell", "fail"]),
    help="An output with a NaN is told as it is, or as a failure; of a run gone on with as recorded, else tell.",
)  # fmt: skip
@click.option(
    "--max-failures", metavar="N", type=click.IntRange(0), default=MAX_FAILURES,
    help=f"End after so many failures one after the other, by default {MAX_FAILURES}; 0: never.",
)  # fmt: skip
@click.option(
    "--list", "listing", is_flag=True, is_eager=True, expose_value=False, callback=lambda *given: _list(*given),
    help="List the learners that there are, and leave.",
)  # fmt: skip
@address_option
@json_option
def command(
    master: str,
    pairs: tuple[str, ...],
    learner_name: str | None,
    options: tuple[str, ...],
    path: str,
    wanted: tuple[str, ...],
    run_name: str | None,
    take_over: bool,
    seed: int | None,
    in_flight: int | None,
    retries: int,
    nan: str | None,
    max_failures: int,
    address: str | None,
    as_json: bool,
) -> int:
    """Have a learner choose the points that MASTER evaluates; KEY=VALUE are the learner's options.

    A learner of another library is called by the library's name and its own: optuna:TPESampler, nevergrad:DE. One of
    your own is called by its module and class, climber:Climber for that of climber.py.

    The first Ctrl-C, or SIGTERM, puts nothing further and waits for what is in flight, the second leaves at once. The
    same command with the same --run goes on where it was, after whatever happened; without --learner, too, as it is
    recorded how that was made. To go on from a run with another learner, fork it first: 'taskmaster runs fork'.
    """
    goal = _goal(wanted)
    learner_name, given = chosen(learner_name, pairs, options, path)
    if learner_name is None and run_name is None:
        raise click.UsageError("say what chooses the points: --learner NAME ('taskmaster learn --list' has them)")
    with connected(address) as lab:
        evaluator = lab[master]
        known = _authors(evaluator, run_name)
        if learner_name is None:
            assert run_name is not None
            learner_name, given, path = _recorded(known, master, run_name, path)
        require_workers(evaluator)  # all this before there is a run: one that fails is to leave none
        warn_if_idle(evaluator)
        learner = made(learner_name, evaluator.parameters, evaluator.outputs, given)
        _require_possible(goal, learner)
        author, by_name = named(learner_name, given, path, learner, evaluator)
        if known is not None and not take_over:
            known.require_like(author, master)
        view = LoopView(in_place=not isinstance(learner, Recalling))  # where a person types nothing is drawn over it
        loop = Loop(
            evaluator,
            learner,
            goal=goal,
            in_flight=in_flight,
            hook=view.on_result,
            retries=retries,
            nan=nan,
            max_failures=max_failures or None,
            name=run_name,
            seed=seed,
            metadata=by_name,
        )
        again = f"go on with: taskmaster learn {master} --run {shlex.quote(loop.run_.name)} …"
        try:
            with view, stopping_in_order(loop, view):
                loop.run()
        except KeyboardInterrupt:
            click.echo(f"left with {count(loop.run_.open_tasks, 'task')} in flight; {again}", err=True)
            return INTERRUPTED
        loop.run_.close()
        info = in_master(lab, master, loop.run_.name)
    _conclude(info, loop, has_goal=goal is not None, as_json=as_json)
    if loop.interrupted:
        click.echo(f"interrupted; {again}", err=True)
    return INTERRUPTED if loop.interrupted else OK


def _authors(master: Master, run: str | None) -> Authors | None:
    """The learners of the run of this name, where there is one."""
    infos = () if run is None else master.lab.runs(master.name)
    return next((Authors.of(master.lab, info) for info in infos if info.name == run), None)


def _recorded(known: Authors | None, master: str, run: str, path: str) -> tuple[str, dict[str, str], str]:
    """Name and options of a run's learner, and where its module is. Raises UsageError where they have to be said."""
    if known is None:
        raise click.UsageError(f"Master {master!r} has no run {run!r} yet: say what chooses its points, --learner NAME")
    command = f"taskmaster learn {master} --run {shlex.quote(run)}"
    author = known.choose(known.all[-1] if known.all else None, path, command)
    require_learner(author.name, path)
    click.echo(f"taskmaster: learner {author}, as it is recorded", err=True)
    return author.name, author.options, path


def _conclude(run: RunInfo, loop: Loop, *, has_goal: bool, as_json: bool) -> None:
    """Say what has come of it, and what there was on the way that somebody has to know."""
    seen, bests = loop.statistics(), bests_of(loop.learner)
    is_reached = loop.goal.reached(loop) if has_goal else None
    if as_json:
        print_json(
            {
                "run": run.run,
                "master": run.master,
                "name": run.name,
                "points": seen.told,
                "failed": seen.failed,
                "dropped": seen.dropped,
                "retried": seen.retried,
                "repeated": seen.repeated,
                "nans": seen.nans,
                "unasked": seen.unasked,
                "seconds": seen.elapsed,
                "loss": figure(seen.loss),
                "best": _plain(bests[0]) if bests else None,
                "bests": [_plain(best) for best in bests],
                "goal_reached": is_reached,
                "interrupted": loop.interrupted,
            }
        )
        return
    parts = [f"{count(seen.told, 'point')} in {format_duration(seen.elapsed)}", *mishaps_text(seen)]
    if not math.isnan(seen.loss):
        parts.append(f"loss {number(seen.loss)}")
    say(f"run {run.run} ({run.master}/{run.name}): {', '.join(parts)}")
    if is_reached is False and not loop.interrupted:
        say(f"the goal, {loop.goal!r}, is not reached: the learner has no more points to ask for")
    is_plain = len(loop.master.outputs) < 2 and len(bests) < 2
    for best in bests:
        name = "" if is_plain or best.name is None else f"{best.name} "
        say(f"best {name}{number(best.output)} at {value_text(best.point)}")


def _plain(best: Best) -> dict[str, Any]:
    return {"point": plain(best.point), "output": plain(best.output), "name": best.name}


# -- what is given as text --------------------------------------------------------------------------------------------


def _goal(wanted: Sequence[str]) -> Goal | None:
    """The first of these goals that is reached."""
    made = [_one_goal(*pair(text, "--goal")) for text in wanted]
    return reduce(lambda one, other: one | other, made) if made else None


def _one_goal(what: str, value: str) -> Goal:
    if what not in _GOALS:
        raise click.UsageError(f"there is no goal {what!r}{did_you_mean(what, _GOALS) or f'; write {_GOALS_TEXT}'}")
    make, read = _GOALS[what]
    try:
        figure = read(value)
    except ValueError:
        raise click.UsageError(f"the goal {what}={value} needs a number; write {_GOALS_TEXT}") from None
    try:
        return make(figure)
    except CallerError as error:
        raise click.UsageError(f"--goal {what}={value}: {error}") from None


def _require_possible(goal: Goal | None, learner: Learner) -> None:
    try:
        if goal is not None:
            goal.require(learner)
    except CallerError as error:
        raise click.UsageError(str(error)) from None


def _list(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    formatter = context.make_formatter()
    formatter.write_dl([(name, (factory(name).__doc__ or "").strip().partition("\n")[0]) for name in names()])
    click.echo(formatter.getvalue().rstrip())
    context.exit()
