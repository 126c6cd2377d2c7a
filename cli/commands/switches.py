"""``taskmaster pause`` and ``taskmaster resume``"""

from __future__ import annotations

import click

from taskmaster.bus import messages as m
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, in_master
from taskmaster.cli.output import print_json, say

__all__ = ["pause", "resume"]


@click.command("pause", cls=Command)
@click.argument("master")
@click.option("--run", "run_name", metavar="RUN", help="Only this run, by name or number.")
@address_option
@json_option
def pause(master: str, run_name: str | None, address: str | None, as_json: bool) -> None:
    """Evaluate nothing further of MASTER, or of one run.

    What is being evaluated goes on, and tasks are taken as before. A restart of the daemon changes nothing about it.
    """
    with connected(address) as lab:
        run = None if run_name is None else in_master(lab, master, run_name).run
        lab.ask(m.Pause(0, master, run))
    if as_json:
        print_json({"master": master, "run": run, "paused": True})
        return
    again = f"taskmaster resume {master}" + ("" if run is None else f" --run {run}")
    say(f"{_what(master, run_name)} is paused; go on with: {again}")


@click.command("resume", cls=Command)
@click.argument("master")
@click.option("--run", "run_name", metavar="RUN", help="Only this run, by name or number.")
@address_option
@json_option
def resume(master: str, run_name: str | None, address: str | None, as_json: bool) -> None:
    """Go on with MASTER, or with one run, that was paused.

    Also starts the workers of a Master again, if the daemon had given them up.
    """
    with connected(address) as lab:
        run = None if run_name is None else in_master(lab, master, run_name).run
        lab.ask(m.Resume(0, master, run))
    if as_json:
        print_json({"master": master, "run": run, "paused": False})
    else:
        say(f"{_what(master, run_name)} goes on")


def _what(master: str, run_name: str | None) -> str:
    return f"Master {master!r}" if run_name is None else f"run {run_name!r} of Master {master!r}"
