"""``taskmaster worker``: processes of this machine evaluate for a daemon elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmaster.bus.errors import WorkerError
from taskmaster.cli.base import Command
from taskmaster.cli.exits import INTERRUPTED, OK
from taskmaster.cli.logs import log_options, log_to_stderr
from taskmaster.cli.output import count

if TYPE_CHECKING:
    from taskmaster.daemon.systemd import ServiceManager
    from taskmaster.drivers.hosting import Host, Place

__all__ = ["command"]

log = logging.getLogger("taskmaster.host")


@click.command("worker", cls=Command)
@click.argument("address")
@click.argument("master")
@click.option(
    "-n", "--processes", metavar="N", type=click.IntRange(1, 1024), default=None,
    help="How many worker processes; by default one for each processor, of driver gpu one for each device.",
)  # fmt: skip
@click.option(
    "--path", "path", multiple=True, metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="A folder to import the Master's functions from, if they lie elsewhere here; repeatable.",
)  # fmt: skip
@click.option(
    "--key", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="The pair of keys to show a daemon over the network; by default $TASKMASTER_KEY, else your own.",
)  # fmt: skip
@log_options
def command(
    address: str,
    master: str,
    processes: int | None,
    path: tuple[Path, ...],
    key: Path | None,
    log_level: str,
    log_format: str,
) -> int:
    """Evaluate for a MASTER of the daemon whose control address is ADDRESS.

    What to evaluate comes from the daemon's configuration; the function itself must be installed here, or lie in DIR.
    Of an instrument whose Master says processes = "elsewhere" it starts a process for each head, whatever -n says, and
    brings the heads to their safe state when it leaves.

    Stays through restarts of the daemon, and says when it is gone and when it is back. Ctrl-C or SIGTERM finishes what
    is being evaluated and leaves; a second one leaves at once, and what was being evaluated is tried elsewhere.

    From another machine: with keys, see docs/security.md. Of a daemon that has none and listens on its own machine
    alone, say with listen = "tcp://127.0.0.1:5570", bring the three ports here, under the same numbers, then work for
    tcp://127.0.0.1:5570:

    \b
      ssh -N -L 5570:127.0.0.1:5570 -L 5571:127.0.0.1:5571 -L 5572:127.0.0.1:5572 lab-7
    """
    from taskmaster.cli.connecting import require_listener
    from taskmaster.daemon.systemd import ServiceManager
    from taskmaster.drivers.dialin import DialIn, find
    from taskmaster.drivers.gpu.visible import count_devices

    log_to_stderr(log_level, log_format, "taskmaster-worker")
    manager = ServiceManager()
    manager.says(f"looking for the daemon at {address}")
    require_listener(address)
    place = find(address, master, key=key)
    if place.credentials is not None:
        os.environ.update(place.credentials.environment())  # for the processes that are started
    if place.has_heads:
        return _guard(place, path, manager)
    if processes is None:
        processes = max(1, count_devices()) if place.has_devices else len(os.sched_getaffinity(0))
    log.info(
        "%s for Master %r of %r at %s; Ctrl-C to leave",
        count(processes, "worker process", "worker processes"),
        master,
        place.daemon,
        place.address,
    )
    host = DialIn(place, processes, path)
    host.beat = _reporting(manager)
    finished = host.run()
    log.info("left Master %r", master)
    return OK if finished else INTERRUPTED


def _reporting(manager: ServiceManager) -> Callable[[Host[Any]], None]:
    """Has the service manager know how a host of workers is."""
    begun = leaving = False

    def report(host: Host[Any]) -> None:
        nonlocal begun, leaving
        if host.requests and not leaving:
            leaving = True
            manager.stopping("leaving: what is being evaluated may end")
        elif not begun and host.has_begun:
            begun = True
            manager.ready(_condition(host))
        manager.turned(lambda: _condition(host))

    return report


def _condition(host: Host[Any]) -> str:
    workers = count(len(host.processes), "worker process", "worker processes")
    if host.requests:
        return f"leaving: {workers} may end what they evaluate"
    there = "at" if host.is_connected else "waiting for the daemon to come back at"
    return f"{workers} for Master {host.place.master!r} of {host.place.daemon!r} {there} {host.place.address}"


def _guard(place: Place, path: tuple[Path, ...], manager: ServiceManager) -> int:
    """The heads of an instrument that is here."""
    from taskmaster.bus.places import default_state
    from taskmaster.drivers.instruments.guardian import guard

    folder = default_state() / "heads" / f"{place.daemon}-{place.master}"
    log.info("heads of Master %r of %r at %s; Ctrl-C to leave", place.master, place.daemon, place.address)
    if not guard(place, folder, path, stays=True, beat=_reporting(manager)):
        raise WorkerError(
            f"another process here has the heads of Master {place.master!r} of {place.daemon!r}: {folder}"
        )
    log.info("left Master %r", place.master)
    return OK
