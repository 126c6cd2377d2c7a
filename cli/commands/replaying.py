"""``taskmaster runs replay``, ``diff`` and ``fork``: what to do with a run that went wrong."""

from __future__ import annotations

import shlex
import sys
import traceback
from bdb import BdbQuit
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.cli.authors import Authors
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.exits import ERROR, OK
from taskmaster.cli.learners import PATH_HELP, chosen, made, require_learner
from taskmaster.cli.output import count, figure, is_terminal, print_json, say
from taskmaster.cli.stepping import Left, Stepper, points_text, state_text
from taskmaster.learners.export.plain import plain
from taskmaster.learners.history import History, Recording
from taskmaster.learners.looping.libraries import changes
from taskmaster.learners.marks import mark_of
from taskmaster.learners.parting import part
from taskmaster.learners.protocol import Learner, Lossy, loss_of
from taskmaster.learners.replay import Replayed, Step, replay
from taskmaster.learners.routed import RoutedHistory
from taskmaster.learners.wholes import whole_recording

__all__ = ["diff", "fork", "replay_run"]

#: Results that are shown of those told before a divergence.
_SHOWN = 4


@click.command("replay", cls=Command)
@click.argument("run")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--learner", "learner_name", metavar="NAME",
    help="To whom: one of 'taskmaster learn --list', or MODULE:CLASS. By default the run's own, as it is recorded.",
)  # fmt: skip
@click.option(
    "--option", "options", metavar="KEY=VALUE", multiple=True,
    help="An option of the learner, as those after RUN; repeatable.",
)  # fmt: skip
@click.option("--path", metavar="FOLDER", default=".", help=PATH_HELP)
@click.option("--until", metavar="N", type=click.IntRange(0), help="As far as N events; with --step, without stopping.")
@click.option("--step", is_flag=True, help="Stop at each step, and show the learner.")
@address_option
@json_option
def replay_run(
    run: str,
    pairs: tuple[str, ...],
    learner_name: str | None,
    options: tuple[str, ...],
    path: str,
    until: int | None,
    step: bool,
    address: str | None,
    as_json: bool,
) -> int:
    """Play the record of RUN to a learner again, asks and results in the order in which they were.

    Without --learner it is made as the run's own was, by name and options as 'taskmaster learn' has recorded them.

    Nothing is evaluated. What the learner asks is compared with what was asked then, to the bit, and the first
    difference is shown: the exit code is 1 then. A step is an ask of the learner, or a result that it is told; N counts
    results, and other events.

    Of a run over several Masters RUN names its leg at any of them: all legs are read together, which this daemon has to
    have, and N counts the results of all.
    """
    if step and not (sys.stdin.isatty() and is_terminal()):
        raise click.UsageError("--step needs a terminal")
    learner_name, given = chosen(learner_name, pairs, options, path)
    with connected(address) as lab:
        info = find_run(lab, run)
        history, known = whole_recording(History(lab, info)), Authors.of(lab, info)
        if learner_name is None:
            command = f"taskmaster runs replay {known.title}"
            author = known.choose(known.all[0] if known.all else None, path, command)
            require_learner(author.name, path)
            learner_name, given = author.name, author.options
            click.echo(f"taskmaster: learner {author}, as it is recorded", err=True)
        make = partial(made, learner_name, history.parameters, history.outputs, given)
        learner = make()

        def again(hook: Callable[[Step], None]) -> Learner:
            other = make()
            with suppress(Left):
                replay(other, history, hook=hook)
            return other

        stepper = Stepper(learner, until or 0, again) if step else None
        try:
            replayed = replay(learner, history, until=None if step else until, hook=stepper)
        except (Left, BdbQuit):
            return OK
        except (TaskMasterError, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the learner's own, which is what somebody looks for here
            traceback.print_exception(error)
            return ERROR
    if as_json:
        print_json(_as_json(replayed, learner))
    else:
        _conclude(history, replayed, learner, known)
    return OK if replayed else ERROR


def _conclude(history: Recording, replayed: Replayed, learner: Learner, known: Authors) -> None:
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
    for author in known.all:
        say(f"  it is of learner {author}" + (f", from task {author.first} on" if author.first else ""))
    say(f"  then: {points_text(divergence.recorded)}")
    say(f"  now:  {points_text(divergence.now)}")
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
        "loss": figure(loss_of(learner)) if isinstance(learner, Lossy) else None,
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
        known = Authors.of(lab, forked)
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
        return
    line = f"taskmaster learn {forked.master} --run {shlex.quote(forked.name)}"
    if known.all and known.all[-1].by_name:
        say(f"go on with it, by its learner or by another one: {line} [--learner …]")
    else:
        say(f"go on with it: {line} --learner …")
