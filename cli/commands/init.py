"""``taskmaster init``: something to start from."""

from __future__ import annotations

from pathlib import Path

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.keys import new_pair, write_pair
from taskmaster.cli.base import Command
from taskmaster.cli.output import say

__all__ = ["TEMPLATES", "command"]

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
CONFIG, MODULE, KEY = "taskmaster.toml", "resonance.py", "daemon.key"

_NEXT = """\
Wrote {config}, a daemon with one Master; {module}, what that evaluates; and {key}, by which others know
the daemon once they may come from elsewhere (docs/security.md): it is secret, leave it here. Next:

  taskmaster check {config}
  taskmaster serve {config}

and in another terminal:

  taskmaster submit resonance frequency=3,damping=0.1 --wait
  taskmaster learn resonance --learner random --goal npoints=100
  taskmaster top"""


@click.command("init", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def command(folder: Path) -> None:
    """Write a configuration and an example to start from.

    Writes taskmaster.toml, resonance.py and the daemon's own keys, daemon.key, into FOLDER (the current one by default,
    made if missing), and never over what is there.
    """
    there = [name for name in (CONFIG, MODULE, KEY) if (folder / name).exists()]
    if there:
        names = ", ".join(str(folder / name) for name in there)
        raise CallerError(f"{names} {'is' if len(there) == 1 else 'are'} there already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, MODULE):
        with open(folder / name, "x", encoding="utf-8") as file:
            file.write((TEMPLATES / name).read_text(encoding="utf-8"))
    write_pair(folder / KEY, new_pair(), "the daemon")
    say(_NEXT.format(config=folder / CONFIG, module=folder / MODULE, key=folder / KEY))
