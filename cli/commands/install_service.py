"""``taskmaster install-service``: have systemd run the daemon."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import CallerError, ConfigError
from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.base import Command
from taskmaster.cli.installation import Installation, is_home, is_temporary, this_installation, unreadable
from taskmaster.cli.installing import installed, outdated, remove, state_of, write
from taskmaster.cli.networks import public_networks
from taskmaster.cli.output import say
from taskmaster.cli.units import ALLOWANCES, DEVICES, Service, UnitFile, read_by, unit_files, written_by

if TYPE_CHECKING:
    from taskmaster.config.load import Config

__all__ = ["command"]

#: What systemd takes between the @ and the dot of a unit's name, without escapes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DONE = {"new": "wrote", "same": "as it was", "older": "renewed", "changed": "overwrote"}
_PLANNED = {"new": "to be written", "same": "as it is", "older": "to be renewed", "changed": "CHANGED BY HAND"}


def _several(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Words with commas between, or the option repeated."""
    known = DEVICES if parameter.name == "devices" else ALLOWANCES
    words = [word.strip() for part in value for word in part.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of them{did_you_mean_or(word, known)}")
    return tuple(dict.fromkeys(words))


@click.command("install-service", cls=Command)
@click.option("--name", metavar="NAME", default="", help="One of several on this machine: taskmaster@NAME.")
@click.option(
    "--config", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="What it serves. By default /etc/taskmaster/taskmaster.toml, or NAME.toml there.",
)  # fmt: skip
@click.option("--worker", is_flag=True, help="Workers for a daemon elsewhere, in its place: needs --name.")
@click.option("--user", is_flag=True, help="For your own service manager: without root, and without most protections.")
@click.option(
    "--devices", metavar="CLASSES", multiple=True, callback=_several,
    help=f"The classes of devices that it may use: {', '.join(DEVICES)}; several with commas.",
)  # fmt: skip
@click.option(
    "--allow", "allowances", metavar="WHAT", multiple=True, callback=_several,
    help="What else its functions may do: use the internet, choose their processors (and priority).",
)  # fmt: skip
@click.option(
    "--writable", metavar="DIR", multiple=True, type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    help="A folder that its functions may write to; repeatable.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--uninstall", is_flag=True, help="Take the files away again. State and configuration stay.")
@click.option("--force", is_flag=True, help="Overwrite, or take away, files that were changed by hand.")
@click.option(
    "--root", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), default=Path("/"), show_default=True,
    help="Write below this folder, as for another machine's disk.",
)  # fmt: skip
def command(
    name: str,
    config: Path | None,
    worker: bool,
    user: bool,
    devices: tuple[str, ...],
    allowances: tuple[str, ...],
    writable: tuple[Path, ...],
    dry_run: bool,
    uninstall: bool,
    force: bool,
    root: Path,
) -> None:
    """Have systemd run the daemon, or workers.

    Writes the units, says for what each file is, and what to type next; starts nothing. What it runs is this very
    installation. It may be called again at any time, with other options or after an upgrade: files that were changed by
    hand are then shown with what is different, and left alone.

    docs/operations.md says what the service may do and what not.
    """
    service = _service(name, config, worker, user, devices, allowances, writable, root)
    if not dry_run:
        _require_rights(service)
    if uninstall:
        _uninstall(service, force=force, dry_run=dry_run)
        return
    installation = this_installation()
    loaded = None if worker else _load(service)
    if not user:
        _require_places(read_by(service, installation, loaded), written_by(service, loaded))
    files = unit_files(service, installation, loaded)
    states = {file.path: state_of(file) for file in files}
    if dry_run:
        _show(files)
        return
    write(files, force=force)
    for file in files:
        say(f"{_DONE[states[file.path]]:10} {file.path}: {file.purpose}")
    gone = outdated(service, files)
    remove(gone, force=False)
    for path in gone:
        say(f"took away  {path}: its sockets are taskmaster-users' again")
    for remark in _remarks(service, installation, loaded):
        say(f"\nNOTE: {remark}")
    changed = [file for file in files if states[file.path] != "same"]
    group = None if loaded is None else loaded.daemon.group
    _say_next(service, changed, gone, group, renewed=bool(gone) or "older" in states.values())


def _service(
    name: str,
    config: Path | None,
    worker: bool,
    user: bool,
    devices: Sequence[str],
    allowances: Sequence[str],
    writable: Sequence[Path],
    root: Path,
) -> Service:
    """What the options ask for, as far as they go together. Raises UsageError where they do not."""
    if sys.platform != "linux":
        raise CallerError("systemd is Linux's; elsewhere run `taskmaster serve` by what that system has for it")
    if name and not _NAME.fullmatch(name):
        raise click.UsageError(f"--name {name!r}: letters, digits, '_', '.' and '-' are taken")
    if worker and not name:
        raise click.UsageError("--worker needs a --name: which of this machine's workers")
    if worker and user:
        raise click.UsageError("--worker and --user do not go together; run `taskmaster worker` in a session of yours")
    if worker and config is not None:
        raise click.UsageError(f"--worker takes no --config: /etc/taskmaster/worker-{name}.conf says where they work")
    if user and (devices or allowances or writable):
        raise click.UsageError("--user: a service of your own may use what you may use; it takes no such options")
    bare = Service(name, worker, user, root=root)
    absolute = (config or bare.default_config).absolute()
    networks = () if user else public_networks()
    return Service(name, worker, user, absolute, devices, allowances, writable, networks, root)


def _require_rights(service: Service) -> None:
    if not service.user and service.root == Path("/") and os.geteuid() != 0:
        raise CallerError(
            f"{service.folder} is root's to write to: type it with sudo, or have a service of your own with --user, or "
            "see what would be written with --dry-run"
        )


def _require_places(read: Sequence[Path], written: Sequence[Path]) -> None:
    """It has a /tmp of its own, and guardians of instruments stay when that is emptied."""
    if temporary := [path for path in read if is_temporary(path)]:
        raise CallerError(
            f"{temporary[0]} is in a folder for temporary files, of which a service has its own: install the program "
            "elsewhere (python3 -m venv /opt/taskmaster), and keep configuration and functions there, too"
        )
    if temporary := [path for path in written if is_temporary(path)]:
        raise CallerError(
            f"{temporary[0]} is in a folder for temporary files, of which a service has its own; take another"
        )


def _load(service: Service) -> Config:
    from taskmaster.config.load import load

    assert service.config is not None
    if not service.config.exists():
        make = shlex.join(["taskmaster", "init", str(service.config.parent)])
        raise ConfigError(f"there is no {service.config}; write one, begin with `{make}`, or name another by --config")
    return load(service.config)


def _show(files: Sequence[UnitFile]) -> None:
    for file in files:
        say(f"# {file.path}: {file.purpose} ({_PLANNED[state_of(file)]})")
        say(file.text)


# -- what is to be known, and to be typed -----------------------------------------------------------------------------


def _remarks(service: Service, installation: Installation, config: Config | None) -> Iterator[str]:
    if service.user:
        return
    assert service.config is not None
    for path in () if service.worker else (service.config.parent, service.config):
        yield from _not_readable(path)
    for path in installation.folders:
        yield from _not_readable(path)
    if config is not None and "state" in config.daemon.model_fields_set:
        yield f"the state folder has to be the service's: install -d -o taskmaster -m 0700 {config.daemon.state}"
    if config is not None and config.daemon.keys is not None and config.daemon.own_key is not None:
        yield from _keys(service.config, config.daemon.keys, config.daemon.own_key)
    if service.worker and not service.config.exists():
        yield (
            f"{service.config} is missing. It says where the workers work:\n"
            "  ADDRESS=tcp://127.0.0.1:5570\n  MASTER=simulation\n  OPTIONS=--processes 4\n"
            "and for a daemon that is reached over the network, by whose keys (docs/security.md):\n"
            f"  TASKMASTER_DAEMON_KEY=tm-public-…\nbeside their own pair in {service.config.with_suffix('.key')}"
        )


def _keys(config: Path, keys: Path, own: Path) -> Iterator[str]:
    """Who comes over the network it can tell only with these."""
    of = f"--config {shlex.quote(str(config))}"
    if not own.exists():
        yield f"the daemon's own keys are missing: taskmaster keys new --daemon {of}"
    if not keys.exists():
        yield f"nobody may come yet: taskmaster keys allow NAME KEY --role ROLE {of}"
    else:
        yield from _not_readable(keys)


def _not_readable(path: Path) -> Iterator[str]:
    step = unreadable(path)
    if step is not None:
        letters = "rX" if step == path or is_home(path) else "X"
        yield f"as far as its mode tells, the service's user cannot read {path}: chmod o+{letters} {step}"


def _say_next(
    service: Service, changed: Sequence[UnitFile], gone: Sequence[Path], group: str | None, *, renewed: bool
) -> None:
    if not changed and not gone:
        say("\nAll is as it should be. What has changed in the program or the configuration: systemctl restart")
        return
    say("\nNext:\n")
    for line, why in _next(service, changed, gone, group, renewed=renewed):
        say(f"  {line:58} # {why}")


def _next(
    service: Service, changed: Sequence[UnitFile], gone: Sequence[Path], group: str | None, *, renewed: bool
) -> Iterator[tuple[str, str]]:
    control = "systemctl --user" if service.user else "systemctl"
    kinds = {file.path.parent.name for file in changed}
    unit = service.unit.removesuffix(".service")
    if "sysusers.d" in kinds:
        yield "systemd-sysusers taskmaster.conf", "makes the user taskmaster and the group taskmaster-users"
    if "tmpfiles.d" in kinds or (gone and not service.name):
        yield "systemd-tmpfiles --create taskmaster.conf", "makes the folders"
    if service.sharing in (file.path for file in changed):
        yield f"systemd-tmpfiles --create {service.sharing.name}", f"gives its sockets to the group {group}"
    if gone and service.name:
        yield f"chgrp taskmaster-users /run/taskmaster/{service.name}", "gives its sockets back"
    if "rules.d" in kinds:
        yield "udevadm control --reload && udevadm trigger", "gives the devices that are plugged in to it"
    yield f"{control} daemon-reload", "has systemd read the units"
    yield f"{control} enable --now {unit}", "starts it, now and with the machine"
    if renewed:
        yield f"{control} restart {unit}", "if it runs already"
    if service.user:
        yield "loginctl enable-linger", "has it run while you are not logged in"
    elif not service.worker:
        yield f"usermod -aG {group or 'taskmaster-users'} NAME", "lets somebody use it, from their next login on"
    yield f"{control} status {unit}", "how it is"
    yield f"journalctl {'--user ' if service.user else ''}-u {unit} -f", "what it says"


# -- away again -------------------------------------------------------------------------------------------------------


def _uninstall(service: Service, *, force: bool, dry_run: bool) -> None:
    paths = installed(service)
    control = ["systemctl", *(["--user"] if service.user else [])]
    if not paths:
        raise CallerError(f"{service.unit} is not installed in {service.folder}")
    if dry_run:
        for path in paths:
            say(f"{path} (to be taken away)")
        return
    if service.root == Path("/") and _is_active([*control, "is-active", "--quiet", service.unit]):
        raise CallerError(f"{service.unit} runs; first: {shlex.join([*control, 'disable', '--now', service.unit])}")
    left = remove(paths, force=force)
    for path in paths:
        say(f"{'left, as it was changed by hand (--force):' if path in left else 'took away'} {path}")
    say(f"\nNext:\n\n  {shlex.join(control)} daemon-reload\n")
    say("What it has recorded (/var/lib/taskmaster…), its configuration and its user are still there.")


def _is_active(query: Sequence[str]) -> bool:
    return (
        shutil.which(query[0]) is not None and subprocess.run(query, check=False, capture_output=True).returncode == 0
    )
