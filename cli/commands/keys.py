"""``taskmaster keys``: who may talk to a daemon over the network, and which daemons one knows."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import ConfigError, KeyFileError
from taskmaster.bus.keys import (
    Pinned,
    default_key_file,
    fingerprint,
    new_pair,
    public_from_text,
    public_text,
    read_pair,
    write_pair,
)
from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.base import Command, Group, json_option
from taskmaster.cli.output import Cell, Table, print_json, print_table, say, say_aside
from taskmaster.config.authorised import NAME, ROLES, Grant, RoleName, edit, read_grants

if TYPE_CHECKING:
    from taskmaster.config.load import Config

__all__ = ["command"]

#: The environment variable that names the configuration of the daemon on this machine, and where it is looked for else.
CONFIG_ENVIRONMENT = "TASKMASTER_CONFIG"
_CONFIGS = (Path("taskmaster.toml"), Path("/etc/taskmaster/taskmaster.toml"))

_config_option = click.option(
    "--config", "config", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help=f"The daemon's configuration; by default ${CONFIG_ENVIRONMENT}, else taskmaster.toml here or in "
    "/etc/taskmaster.",
)  # fmt: skip
_role_option = click.option("--role", type=click.Choice(ROLES), help="What the owner of the key may do.")
_masters_option = click.option(
    "--master", "masters", metavar="MASTER", multiple=True, help="A Master for which that holds; by default all."
)
_code_option = click.option(
    "--code", metavar="MASTER", multiple=True, help="A Master to which its owner may send code; repeatable."
)
_expires_option = click.option(
    "--expires", metavar="DATE", help="When the key ceases to hold: 2027-01-31, 2027-01-31T18:00, or never."
)


@click.group("keys", cls=Group)
def command() -> None:
    """Who may talk to a daemon over the network, and which daemons you know.

    Each side has a pair of keys. The secret one never leaves its machine; by the public one others know its owner.
    docs/security.md sets two machines up in five commands.
    """


@command.command("new", cls=Command)
@click.argument("name", required=False)
@click.option("--daemon", is_flag=True, help="The daemon's own pair, beside its file of keys.")
@click.option(
    "--file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it; by default your own, $TASKMASTER_KEY or ~/.config/taskmaster/key.toml.",
)  # fmt: skip
@_role_option
@_masters_option
@_code_option
@_expires_option
@_config_option
def new(
    name: str | None,
    daemon: bool,
    file: Path | None,
    role: RoleName | None,
    masters: Sequence[str],
    code: Sequence[str],
    expires: str | None,
    config: Path | None,
) -> None:
    """Make a pair of keys.

    For NAME, you: your own, of which you give the public key to the daemon's operator. With --role it is made on the
    daemon's machine, by its operator, for somebody else or a worker: written to NAME.key here, to be handed on, and
    allowed at once.
    """
    if daemon:
        _require_none("the daemon's own key has no name and no role", name, role, *masters, *code, expires)
        path = file or _own_key(config)
        pair = new_pair()
        write_pair(path, pair, "the daemon")
        say(f"wrote {path}; clients know this daemon by\n\n  {pair.text}\n")
        return
    if name is None:
        raise click.UsageError("say whose key it is to be: taskmaster keys new NAME (or --daemon)")
    _require_name(name)
    if role is None:
        _require_none(
            "what the owner of a key may do the daemon's operator says, by taskmaster keys allow; to make and allow "
            "somebody's key at once, on the daemon's machine, say --role, too",
            *masters, *code, expires,
        )  # fmt: skip
        _make_own(name, file or default_key_file())
        return
    keys = _keys_file(config)
    path, pair = file or Path(f"{name}.key"), new_pair()
    grant = Grant(name, pair.public, role, _named(masters), frozenset(code), _moment(expires))

    with contextlib.ExitStack() as undo:

        def added(known: Mapping[str, Grant]) -> Mapping[str, Grant]:
            if name in known:
                raise click.UsageError(_has_one(known[name]))
            write_pair(path, pair, name)
            undo.callback(path.unlink)
            return {name: grant}

        edit(keys, added)
        undo.pop_all()
    say(f"wrote {path}: hand it on to {name}, by a way that nobody listens at, and delete it here")
    say(f"{keys}: {name} may come as {role}")
    _remark_on(grant, config)


def _make_own(name: str, path: Path) -> None:
    pair = new_pair()
    write_pair(path, pair, name)
    say(f"wrote {path}, which only you may read. Have the daemon's operator type, on its machine:\n")
    say(f"  taskmaster keys allow {name} {pair.text} --role learner\n")
    say("and know the daemon by the key that 'taskmaster keys show --daemon' shows there:\n")
    say("  taskmaster keys pin tcp://HOST:PORT tm-public-…")


@command.command("allow", cls=Command)
@click.argument("name")
@click.argument("key", required=False)
@_role_option
@_masters_option
@click.option("--all-masters", is_flag=True, help="It holds for all Masters again.")
@_code_option
@click.option("--no-code", is_flag=True, help="Its owner may send code to no Master any more.")
@_expires_option
@_config_option
def allow(
    name: str,
    key: str | None,
    role: RoleName | None,
    masters: Sequence[str],
    all_masters: bool,
    code: Sequence[str],
    no_code: bool,
    expires: str | None,
    config: Path | None,
) -> None:
    """Let the owner of the public KEY come to the daemon, as NAME; or change what NAME may do.

    A daemon that runs takes that up within a second.
    """
    _require_name(name)
    if (masters and all_masters) or (code and no_code):
        raise click.UsageError("--master and --all-masters contradict each other, as --code and --no-code do")
    keys = _keys_file(config)
    public = None if key is None else public_from_text(key)
    until = _moment(expires)

    def allowed(known: Mapping[str, Grant]) -> Mapping[str, Grant]:
        before = known.get(name)
        if before is None:
            if public is None:
                raise click.UsageError(f"{name!r} is not known yet: give the public key, too")
            if role is None:
                raise click.UsageError(f"say what {name!r} may do: --role {' | '.join(ROLES)}")
            return {name: Grant(name, public, role, _named(masters), frozenset(code), until)}
        if before.revoked and public is None:
            raise click.UsageError(
                f"the key of {name!r} was revoked: give the public key by which {name!r} is to come from now on, too, "
                "be it the same"
            )
        if public not in (None, before.key) and not before.revoked:
            raise click.UsageError(
                f"{name!r} comes by another key; taskmaster keys revoke {name} first, if it is to go"
            )
        grant = Grant(
            name,
            public or before.key,
            role or before.role,
            _named(masters) if masters or all_masters else before.masters,
            frozenset(code) if code or no_code else before.code,
            until if expires is not None else before.expires,
        )
        return {name: grant}

    grant = edit(keys, allowed)[name]
    say(f"{keys}: {name} may come as {_text(grant)}")
    _remark_on(grant, config)


@command.command("revoke", cls=Command)
@click.argument("name")
@_config_option
def revoke(name: str, config: Path | None) -> None:
    """Let NAME come no more. A daemon that runs refuses what still comes from a second on, and ends its connections
    some ten seconds later, or as soon as much comes by them."""
    keys = _keys_file(config)
    read_grants(keys)  # raises where there is none

    def revoked(known: Mapping[str, Grant]) -> Mapping[str, Grant]:
        if name not in known:
            raise click.UsageError(f"there is no key {name!r}{did_you_mean_or(name, known)}")
        return {name: replace(known[name], revoked=True)}

    edit(keys, revoked)
    say(f"{keys}: {name} may come no more")


@command.command("list", cls=Command)
@_config_option
@json_option
def list_(config: Path | None, as_json: bool) -> None:
    """List the keys that are allowed, or were."""
    keys, now = _keys_file(config), time.time()
    grants = read_grants(keys) if keys.exists() else ()
    if as_json:
        print_json([_plain(grant, now) for grant in grants])
        return
    if not grants:
        say(f"{keys}: nobody may come over the network; taskmaster keys allow NAME KEY --role ROLE")
        return
    rows = [
        (
            grant.name,
            grant.role,
            ", ".join(sorted(grant.masters)) if grant.masters is not None else "all",
            ", ".join(sorted(grant.code)) or "–",
            _date(grant.expires),
            Cell(_state(grant, now), "" if grant.holds(now) else "red"),
            fingerprint(grant.key),
            public_text(grant.key),
        )
        for grant in grants
    ]
    print_table(
        Table(
            ["name", "role", "masters", "code", "expires", "state", "fingerprint", "key"],
            list(rows),
            elastic=["masters"],
        )
    )


@command.command("show", cls=Command)
@click.argument("name", required=False)
@click.option("--daemon", is_flag=True, help="The daemon's, on its machine.")
@click.option(
    "--file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="That of the pair in this file."
)
@_config_option
def show(name: str | None, daemon: bool, file: Path | None, config: Path | None) -> None:
    """Print your public key, or the daemon's; of NAME, on the daemon's machine, what its owner may do, too."""
    if name is None:
        say(read_pair(file or (_own_key(config) if daemon else default_key_file())).text)
        return
    _require_none("NAME is of the daemon's file of keys: leave --daemon and --file out", file, daemon or None)
    known = {grant.name: grant for grant in read_grants(_keys_file(config))}
    if name not in known:
        raise click.UsageError(f"there is no key {name!r}{did_you_mean_or(name, known)}")
    say(public_text(known[name].key))
    say(f"{_state(known[name], time.time())}: {_text(known[name])}")


@command.command("pin", cls=Command)
@click.argument("address")
@click.argument("key")
@click.option("--replace", is_flag=True, help="Though it is known by another key.")
def pin(address: str, key: str, replace: bool) -> None:
    """Know the daemon at ADDRESS by its public KEY: you talk to no other there, and encrypted only."""
    if not address.startswith("tcp://"):
        raise click.UsageError(f"{address!r} is not reached over the network; write tcp://HOST:PORT")
    pinned = Pinned()
    known = pinned.pin(address, public_from_text(key), replace=replace)
    say(f"{pinned.path}: the daemon at {known} is known")


# -- what is given, and what is shown ---------------------------------------------------------------------------------


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name) or name == "local":
        raise click.UsageError(
            f"{name!r} cannot name a key: a letter, then letters, digits and any of _ . @ -, at most 64 in all; and "
            "local is whoever is on the daemon's machine"
        )


def _require_none(why: str, *given: object) -> None:
    """Raise UsageError where something was said that would be of no effect."""
    if any(value is not None for value in given):
        raise click.UsageError(why)


def _has_one(grant: Grant) -> str:
    name = grant.name
    if not grant.revoked:
        return f"{name!r} has a key already; taskmaster keys revoke {name}, or choose another name"
    return (
        f"{name!r} had a key, which is revoked; for a new one: taskmaster keys new {name} --file {name}.key, then, "
        f"with what that prints, taskmaster keys allow {name} tm-public-… --role {grant.role}; or choose another name"
    )


def _named(masters: Sequence[str]) -> frozenset[str] | None:
    return frozenset(masters) if masters else None


def _moment(text: str | None) -> float | None:
    if text is None or text == "never":
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.UsageError(
            f"--expires takes a date like 2027-01-31 or 2027-01-31T18:00, or never, not {text!r}"
        ) from None


def _remark_on(grant: Grant, config: Path | None) -> None:
    """Say what may not be as it was meant."""
    masters = _loaded(config).masters
    for master in sorted({*(grant.masters or ()), *grant.code} - masters.keys()):
        say_aside(f"there is no Master {master!r} in the configuration{did_you_mean_or(master, masters)}")
    if not grant.revoked and not grant.holds(time.time()):
        say_aside(f"{_date(grant.expires)} is in the past: {grant.name} may not come at all")


def _loaded(config: Path | None) -> Config:
    from taskmaster.config.load import load

    return load(config or _default_config())


def _settings(config: Path | None) -> tuple[Path, Path]:
    """The file of keys and the daemon's own, as its configuration has them."""
    daemon = _loaded(config).daemon
    if daemon.keys is None or daemon.own_key is None:
        raise ConfigError(
            f'{config or _default_config()}: nobody comes over the network: add keys = "keys.toml" to [daemon]'
        )
    return daemon.keys, daemon.own_key


def _default_config() -> Path:
    given = os.environ.get(CONFIG_ENVIRONMENT)
    found = Path(given) if given else next((path for path in _CONFIGS if path.exists()), None)
    if found is None:
        raise KeyFileError(f"there is no taskmaster.toml here; say --config FILE, or ${CONFIG_ENVIRONMENT}")
    return found


def _keys_file(config: Path | None) -> Path:
    return _settings(config)[0]


def _own_key(config: Path | None) -> Path:
    return _settings(config)[1]


def _state(grant: Grant, now: float) -> str:
    return "revoked" if grant.revoked else "in force" if grant.holds(now) else "expired"


def _text(grant: Grant) -> str:
    parts: list[str] = [grant.role]
    if grant.masters is not None:
        parts.append(f"for {', '.join(sorted(grant.masters))}")
    if grant.code:
        parts.append(f"with code for {', '.join(sorted(grant.code))}")
    if grant.expires is not None:
        parts.append(f"until {_date(grant.expires)}")
    return ", ".join(parts)


def _date(moment: float | None) -> str:
    return "–" if moment is None else datetime.datetime.fromtimestamp(moment).isoformat(" ", "minutes")


def _plain(grant: Grant, now: float) -> dict[str, object]:
    return {
        "name": grant.name,
        "role": grant.role,
        "masters": None if grant.masters is None else sorted(grant.masters),
        "code": sorted(grant.code),
        "expires": grant.expires,
        "state": _state(grant, now),
        "fingerprint": fingerprint(grant.key),
        "key": public_text(grant.key),
    }
