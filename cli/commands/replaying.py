"""``taskmaster runs replay``, ``diff`` and ``fork``: what to do with a run that went wrong."""

from __future__ import annotations

import copy
import math
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.exits import ERROR, OK
from taskmaster.cli.learners import PATH_HELP, made, pair, require_learner
from taskmaster.cli.output import count, figure, is_terminal, number, print_json, say, value_text
from taskmaster.learners.export.plain import plain
from taskmaster.learners.history import History, Recording
from taskmaster.learners.looping.libraries import changes
from taskmaster.learners.marks import mark_of
from taskmaster.learners.parting import part
from taskmaster.learners.protocol import Learner, Lossy, describe
from taskmaster.learners.replay import AskStep, Replayed, Step, replay
from taskmaster.learners.routed import RoutedHistory
from taskmaster.learners.typing_in import typed_line
from taskmaster.learners.wholes import whole_recording

__all__ = ["diff", "fork", "replay_run"]

#: Points of an ask that are shown.
_SHOWN = 4
_KEYS = "Enter: one step; a number: so many; c: to the end; p: the next point; q: leave"


@click.command("replay", cls=Command)
@click.argument("run")
@click.option(
    "--learner", "learner_name", metavar="NAME", required=True,
    help="To whom: one of 'taskmaster learn --list', or MODULE:CLASS.",
)  # fmt: skip
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="An option of the learner; repeatable.")
@click.option("--path", metavar="FOLDER", default=".", help=PATH_HELP)
@click.option("--until", metavar="N", type=click.IntRange(0), help="As far as N events; with --step, without stopping.")
@click.option("--step", is_flag=True, help="Stop at each step, and show the learner.")
@address_option
@json_option
def replay_run(
    run: str,
    learner_name: str,
    options: tuple[str, ...],
    path: str,
    until: int | None,
    step: bool,
    address: str | None,
    as_json: bool,
) -> int:
    """Play the record of RUN to a learner again, asks and results in the order in which they were.

    Nothing is evaluated. What the learner asks is compared with what was asked then, to the bit, and the first
    difference is shown: the exit code is 1 then. A step is an ask of the learner, or a result that it is told; N counts
    results, and other events.

    Of a run over several Masters RUN names its leg at any of them: all legs are read together, which this daemon has to
    have, and N counts the results of all.
    """
    if step and not (sys.stdin.isatty() and is_terminal()):
        raise click.UsageError("--step needs a terminal")
    require_learner(learner_name, path)
    given = dict(pair(text, "--option") for text in options)
    with connected(address) as lab:
        history = whole_recording(History(lab, find_run(lab, run)))
        learner = made(learner_name, history.parameters, history.outputs, given)
        stepper = _Stepper(learner, until or 0) if step else None
        try:
            replayed = replay(learner, history, until=None if step else until, hook=stepper)
        except _Left:
            return OK
        except (TaskMasterError, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the learner's own, which is what somebody looks for here
            traceback.print_exception(error)
            return ERROR
    if as_json:
        print_json(_as_json(replayed, learner))
    else:
        _conclude(history, replayed, learner)
    return OK if replayed else ERROR


class _Left(Exception):
    """Whoever steps has seen enough."""


class _Stepper:
    """The hook of a replay that is stepped through at a terminal."""

    def __init__(self, learner: Learner, until: int) -> None:
        self._learner = learner
        self._until = until
        #: steps that are made without stopping
        self._left: float = 0
        self._has_said = False

    def __call__(self, step: Step) -> None:
        if step.told < self._until and not (isinstance(step, AskStep) and step.divergence is not None):
            return
        say(_step_text(step))
        say(f"  {state_text(self._learner)}")
        self._left -= 1
        while self._left <= 0:
            self._heed(self._asked())

    def _asked(self) -> str:
        if not self._has_said:
            say(f"  ({_KEYS})")
            self._has_said = True
        return typed_line("step: ").strip().lower()

    def _heed(self, word: str) -> None:
        if word == "q":
            raise _Left
        if word == "p":
            say(f"  {next_text(self._learner)}")
        elif word == "c":
            self._left = math.inf
        elif word == "" or (word.isdecimal() and int(word) > 0):
            self._left = int(word or 1)
        else:
            say(f"  {_KEYS}")


def _step_text(step: Step) -> str:
    if isinstance(step, AskStep):
        text = f"{step.told:>6}  asked for {step.asked}: {_points_text(step.points)}"
        if step.divergence is not None:
            text += f"\n{'':8}other than then: {_points_text(step.recorded)}\n{'':8}{step.divergence}"
        return text
    result = step.result
    came = f"→ {value_text(result.output)}" if result.outcome == "done" else result.outcome
    how = {"told": "told", "failed": "told of", "again": "not told of, it was put again:"}[step.how]
    return f"{step.told:>6}  {how} task {result.index}, {value_text(result.input)} {came}"


def _points_text(points: Sequence[Any]) -> str:
    more = f", and {len(points) - _SHOWN} more" if len(points) > _SHOWN else ""
    return "; ".join(value_text(point) for point in points[:_SHOWN]) + more or "nothing"


def state_text(learner: Learner) -> str:
    """A learner in a line: what it is, how many points it has, its loss."""
    parts = [describe(learner)]
    npoints = getattr(learner, "npoints", None)
    if isinstance(npoints, int):
        parts.append(count(npoints, "point"))
    if isinstance(learner, Lossy):
        parts.append(f"loss {number(learner.loss())}")
    return ", ".join(parts)


def next_text(learner: Learner) -> str:
    """What a learner would ask now, by a copy of it: asking itself would change what comes."""
    try:
        points = copy.deepcopy(learner).ask(1)
    except Exception as error:  # noqa: BLE001 - a learner's own, of which some cannot be copied, as those with generators
        return f"its next point cannot be known without asking it: {error}"
    return f"it would ask {_points_text(points)}"


def _conclude(history: Recording, replayed: Replayed, learner: Learner) -> None:
    parts = [f"{count(replayed.until, 'event')}, asked {replayed.asks} times, {count(replayed.told, 'output')} told"]
    if replayed.failed:
        parts.append(f"{replayed.failed} failed")
    if replayed.again:
        parts.append(f"{replayed.again} put again")
    say(f"{_run_text(history)}: {', '.join(parts)}")
    say(state_text(learner))
    divergence = replayed.divergence
    if divergence is None:
        say("it asks the same as then")
        return
    say(f"it parts from the record: {divergence}")
    if changed := changes(history.metadata, learner):
        say(f"  the run was made with {changed}")
    say(f"  then: {_points_text(divergence.recorded)}")
    say(f"  now:  {_points_text(divergence.now)}")
    for result in divergence.told[-_SHOWN:]:
        say(f"  told before: {result!r}")


def _run_text(history: Recording) -> str:
    legs = history.legs if isinstance(history, RoutedHistory) else (history,)
    numbers = [str(leg.info.run) for leg in legs if isinstance(leg, History)]
    return f"run{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)} ({history.title})"


def _as_json(replayed: Replayed, learner: Learner) -> dict[str, Any]:
    divergence = replayed.divergence
    return {
        "events": replayed.until,
        "asks": replayed.asks,
        "told": replayed.told,
        "failed": replayed.failed,
        "again": replayed.again,
        "loss": figure(learner.loss()) if isinstance(learner, Lossy) else None,
        "same": divergence is None,
        "divergence": divergence
        and {
            "ask": divergence.ask,
            "after": divergence.after,
            "asked": divergence.asked,
            "index": divergence.index,
            "recorded": plain(list(divergence.recorded)),
            "now": plain(list(divergence.now)),
            "told": [result.seq for result in divergence.told],
            "why": divergence.why,
        },
    }


@click.command("diff", cls=Command)
@click.argument("one")
@click.argument("other")
@address_option
@json_option
def diff(one: str, other: str, address: str | None, as_json: bool) -> int:
    """Show where the runs ONE and OTHER part: the first point, ask or result that differs, to the bit.

    The exit code is 0 if they do not, and 1 if they do, or if one goes on where the other ends. Of a run over several
    Masters ONE or OTHER names its leg at any of them: all legs are compared.
    """
    with connected(address) as lab:
        runs = [whole_recording(History(lab, find_run(lab, text))) for text in (one, other)]
        found = part(*runs)
    if as_json:
        print_json(
            {
                "same": found is None,
                "events": None if found is None else found.told,
                "what": None if found is None else found.what,
                "one": None if found is None else found.one,
                "other": None if found is None else found.other,
            }
        )
    elif found is None:
        say("they are the same")
    else:
        say(f"they part after {count(found.told, 'event')}")
        titles = [run.title if isinstance(run, RoutedHistory) else text for run, text in zip(runs, (one, other))]
        say(f"  {titles[0]}: {found.one}")
        say(f"  {titles[1]}: {found.other}")
    return OK if found is None else ERROR


@click.command("fork", cls=Command)
@click.argument("run")
@click.option("--at", metavar="N", type=click.IntRange(0), help="How many of its events; by default all.")
@click.argument("name")
@address_option
@json_option
def fork(run: str, at: int | None, name: str, address: str | None, as_json: bool) -> None:
    """Make a run NAME that starts from the first N events of RUN.

    What was measured is not measured again: tasks that had been put by then and ended later keep how they ended.
    Tasks without an outcome are open in the fork; of an instrument it is paused, until 'taskmaster resume'. A fork
    that is there already, because the same command was given before, is left as it is, and said to be.

    Of a run over several Masters it is a fork of one leg: what that Master has measured, and no run to go on with.
    """
    with connected(address) as lab:
        found = find_run(lab, run)
        existed = any(other.name == name for other in lab.runs(found.master))
        forked = lab.fork(found.run, name, at)
    if as_json:
        keys = ("run", "master", "name", "tasks", "events", "paused")
        print_json({**{key: getattr(forked, key) for key in keys}, "existed": existed})
        return
    tasks, events = count(forked.tasks, "task"), count(forked.events, "event")
    if existed:
        first = forked.metadata.get("forked_at", "")
        say(
            f"run {forked.run} ({forked.master}/{forked.name}) is there already: it was forked from the first {first} "
            f"events of run {found.run} ({found.master}/{found.name}) before, and has {tasks} and {events} by now"
        )
    else:
        say(
            f"run {forked.run} ({forked.master}/{forked.name}): {tasks}, {events} of run {found.run} "
            f"({found.master}/{found.name})"
        )
    if forked.paused:
        say(f"it is paused; to have its open tasks evaluated: taskmaster resume {forked.master} --run {forked.run}")
    if mark := mark_of(found.metadata):
        say(
            f"it is of one leg of a run over {mark.over}: it has what {found.master!r} measured, and not what the "
            "learner was asked and told, so no learner can go on with it"
        )
    else:
        say(f"go on with it: taskmaster learn {forked.master} --learner … --run {shlex.quote(forked.name)}")
