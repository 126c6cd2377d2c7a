"""The file of authorised keys: who may talk to a daemon over the network, as what, and for how long.

::

    [anna]
    key = "tm-public-kq7d…"
    role = "operator"
    masters = ["stm"]          # all of them, where this is left out
    code = ["svm"]             # may send code to be evaluated there
    expires = 2027-01-31

It is taken whole or not at all: with any mistake in it nothing of it comes into force.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field as PydanticField, ValidationError

from taskmaster.bus.errors import ConfigError, KeyFileError
from taskmaster.bus.keys import public_from_text, public_text
from taskmaster.config.base import Settings, setting
from taskmaster.config.lines import locate
from taskmaster.config.mistakes import Mistake, in_words, placed
from taskmaster.config.settings import MASTER_NAME
from taskmaster.config.values import show

__all__ = ["NAME", "ROLES", "Grant", "RoleName", "as_toml", "edit", "read_authorised", "read_grants"]

RoleName = Literal["observer", "learner", "operator", "worker", "admin"]
ROLES: tuple[RoleName, ...] = ("observer", "learner", "operator", "worker", "admin")

#: What a key may be called: it stands in logs, in the journal and on the command line.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
_HEADER = "# Who may talk to this daemon over the network. Changes come into force when the file is saved.\n"


def _public(text: str) -> str:
    try:
        public_from_text(text)
    except KeyFileError as error:
        raise ValueError(str(error)) from None
    return text


def _master(name: str) -> str:
    if not MASTER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a Master")
    return name


def _moment(value: object) -> object:
    if not isinstance(value, (datetime.date, type(None))):  # which a datetime is, too
        raise ValueError(  # noqa: TRY004 - pydantic takes these
            f"expected a date such as 2027-01-31, without quotes, or a date and time, got {show(value)}"
        )
    return value


_Masters = tuple[Annotated[str, AfterValidator(_master)], ...]


class _Entry(Settings):
    """One key of the file."""

    key: Annotated[str, AfterValidator(_public)] = setting("The public key.", example="tm-public-…")
    role: RoleName = setting("What its owner may do.", example="learner")
    masters: Annotated[_Masters, PydanticField(strict=False)] | None = setting(
        "The Masters for which that holds; by default all.", default=None
    )
    code: Annotated[_Masters, PydanticField(strict=False)] = setting(
        "The Masters to which its owner may send code.", default=()
    )
    expires: Annotated[Any, AfterValidator(_moment)] = setting(
        "When it ceases to hold: at the beginning of a day, in local time, or at a time.", default=None
    )
    revoked: bool = setting("Whether it holds no more.", default=False)


@dataclass(frozen=True)
class Grant:
    """What the owner of a key may do."""

    name: str
    key: bytes
    role: RoleName
    #: the Masters for which it may, None for all
    masters: frozenset[str] | None = None
    #: the Masters to which it may send code
    code: frozenset[str] = frozenset()
    #: seconds since 1970 from which on it may nothing
    expires: float | None = None
    revoked: bool = False

    def holds(self, now: float) -> bool:
        """Whether it is in force, at ``now`` seconds since 1970."""
        return not self.revoked and (self.expires is None or now < self.expires)


def read_grants(path: Path) -> tuple[Grant, ...]:
    """All keys of a file, in its order, whether they hold or not. Raises ConfigError with a line for each mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `taskmaster keys allow` makes it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; save the file in that encoding") from None
    return read_authorised(text, str(path))


def read_authorised(text: str, name: str) -> tuple[Grant, ...]:
    """As :func:`read_grants`, of a text; ``name`` stands for the file in messages."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and what int() thinks of a number with thousands of digits
        raise ConfigError(f"{name}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: lists or tables are nested too deeply") from None
    mistakes: list[Mistake] = []
    grants = tuple(_grants(document, mistakes))
    mistakes += _shared(grants)
    if mistakes:
        raise ConfigError("\n".join(map(str, placed(mistakes, locate(text), name))))
    return grants


def _grants(document: Mapping[str, Any], mistakes: list[Mistake]) -> Iterator[Grant]:
    for name, table in document.items():
        if not NAME.fullmatch(name) or name == "local":
            text = "a key's name is a letter, then letters, digits and any of _ . @ -; and none is called local"
            mistakes.append(Mistake((name,), text))
        if not isinstance(table, dict):
            mistakes.append(Mistake((name,), "expected a table, [NAME], with the keys key and role"))
            continue
        try:
            entry = _Entry.model_validate(table)
        except ValidationError as error:
            mistakes += [Mistake((name, *at), what) for at, what in in_words(error, _Entry, table)]
            continue
        masters = None if entry.masters is None else frozenset(entry.masters)
        for master in entry.code:
            if masters is not None and master not in masters:
                mistakes.append(Mistake((name, "code"), f"{master!r} is not among its masters"))
        yield Grant(
            name,
            public_from_text(entry.key),
            entry.role,
            masters,
            frozenset(entry.code),
            _seconds(entry.expires),
            entry.revoked,
        )


def _seconds(moment: datetime.datetime | datetime.date | None) -> float | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.combine(moment, datetime.time())
    return moment.timestamp()


def _shared(grants: Iterable[Grant]) -> Iterator[Mistake]:
    first: dict[bytes, str] = {}
    for grant in grants:
        other = first.setdefault(grant.key, grant.name)
        if other != grant.name:
            yield Mistake((grant.name, "key"), f"is that of {other!r}, too; each has one of its own")


# -- writing ----------------------------------------------------------------------------------------------------------


def as_toml(grant: Grant) -> str:
    """The table of one key."""
    lines = [f"[{_quoted(grant.name)}]", f'key = "{public_text(grant.key)}"', f'role = "{grant.role}"']
    if grant.masters is not None:
        lines.append(f"masters = {_names(grant.masters)}")
    if grant.code:
        lines.append(f"code = {_names(grant.code)}")
    if grant.expires is not None:
        moment = datetime.datetime.fromtimestamp(grant.expires).astimezone()
        lines.append(f"expires = {moment.isoformat(timespec='seconds')}")
    if grant.revoked:
        lines.append("revoked = true")
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _names(masters: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in sorted(masters)) + "]"


def edit(path: Path, change: Mapping[str, Grant], header: str = _HEADER) -> None:
    """Put these keys into the file, in the place of those of their names, and leave everything else as it is.

    The file is replaced as a whole, so a daemon sees it before or after. Raises ConfigError where it is wrong before,
    or would be afterwards.
    """
    text = header
    if path.exists():
        read_grants(path)
        text = path.read_text(encoding="utf-8")
    for name, grant in change.items():
        text = _replaced(text, name, as_toml(grant))
    read_authorised(text, str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if path.exists():  # it stays whose it is: the daemon, which has to read it, may be another user
                there = path.stat()
                os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), there.st_uid, there.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _replaced(text: str, name: str, table: str) -> str:
    """The text with another table of this name; at its end, if it has none."""
    lines = text.splitlines(keepends=True)
    known = locate(text)
    if (name,) not in known:
        return text.rstrip("\n") + "\n\n" + table
    begin = known[(name,)] - 1
    end = next((k for k in range(begin + 1, len(lines)) if lines[k].lstrip().startswith("[")), len(lines))
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1  # what stands above the next table belongs to that
    return "".join([*lines[:begin], table, *lines[end:]])
