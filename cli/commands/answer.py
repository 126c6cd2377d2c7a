"""``taskmaster answer``: requests are answered, one after the other at a terminal, or one in a line."""

from __future__ import annotations

import sys

import click

from taskmaster.bus.errors import CallerError, InvalidOutput
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, in_master
from taskmaster.cli.output import print_json, say
from taskmaster.cli.points import PointReader
from taskmaster.cli.questions import Desk
from taskmaster.learners.client import Master

__all__ = ["command"]


@click.command("answer", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("master")
@click.argument("run", required=False)
@click.argument("index", type=click.IntRange(0), required=False)
@click.argument("output", nargs=-1)
@click.option("--cannot", metavar="REASON", help="It cannot be done: the task fails, with this reason.")
@click.option("--as", "who", metavar="NAME", help="Who answers; by default your login name.")
@address_option
@json_option
def command(
    master: str,
    run: str | None,
    index: int | None,
    output: tuple[str, ...],
    cannot: str | None,
    who: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Answer requests of MASTER.

    At a terminal: takes one after the other for you, shows what is to be done and asks for each output. 'skip' leaves a
    request to others, 'cannot' says that it cannot be done, Ctrl-C gives it back and ends. With RUN and INDEX only that
    one.

    With RUN, INDEX and OUTPUT (mass=1.2 note=wet, or a JSON object), or with --cannot, in one line and unasked.
    """
    if (run is None) != (index is None):
        raise click.UsageError("name both the run and the number of the task, or none")
    if (output or cannot is not None) and index is None:
        raise click.UsageError("name the run and the number of the task that this answers")
    if output and cannot is not None:
        raise click.UsageError("a task has an OUTPUT or cannot be done (--cannot), not both")
    in_a_line = bool(output) or cannot is not None
    if not in_a_line and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("there is no terminal to ask at: name RUN, INDEX and OUTPUT")
    with connected(address) as lab:
        chosen = lab[master]
        number = None if run is None else in_master(lab, master, run).run
        place = None if number is None or index is None else (number, index)
        if not in_a_line or place is None:
            Desk(chosen, who).work(place)
            return
        _answer(chosen, place, output, cannot, who)
    if as_json:
        print_json({"run": place[0], "master": master, "index": place[1], "action": "done" if output else "fail"})
    else:
        say(f"run {place[0]}: task {place[1]} {'is answered' if output else 'has failed'}")


def _answer(
    master: Master, place: tuple[int, int], output: tuple[str, ...], cannot: str | None, who: str | None
) -> None:
    try:
        if cannot is not None:
            master.refuse(place, cannot, who=who)
        else:
            value = PointReader(master.name, master.outputs, "output").typed_parts(output)
            master.answer(place, value, who=who)
    except InvalidOutput as error:  # not an evaluation has gone wrong, but who types
        raise CallerError(str(error)) from None
