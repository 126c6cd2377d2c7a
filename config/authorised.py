"""The file of authorised keys: who may talk to a daemon over the network, as what, and for how long.

::

    [anna]
    key = "tm-public-kq7d…"
    role = "operator"
    masters = ["stm"]          # all of them, where this is left out
    code = ["svm"]             # may send code to be evaluated there
    expires = 2027-01-31

It is taken whole or not at all: with any mistake in it nothing of it comes into force, nor where others than its owner
could write it.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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

__all__ = ["NAME", "ROLES", "Grant", "RoleName", "as_toml", "edit", "read_authorised", "read_grants", "require_trusted"]

RoleName = Literal["observer", "learner", "operator", "worker", "admin"]
ROLES: tuple[RoleName, ...] = ("observer", "learner", "operator", "worker", "admin")

#: What a key may be called: it stands in logs, in the journal and on the command line.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
#: Whoever can write the file says who may do everything: that is its owner alone.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MODE = 0o644
#: What a file system that has no locks says of one.
_LOCKLESS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
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


def require_trusted(path: Path, owners: Iterable[int] | None = None) -> None:
    """Raise ConfigError where others than the owner of a file of keys may write it, or that is none of ``owners``.

    Where there is none, nothing is said.
    """
    try:
        there = path.stat()
    except OSError:
        return  # who reads it says so
    if there.st_mode & _OTHERS_WRITE:
        raise ConfigError(
            f"{path}: others than its owner may write it (mode {stat.S_IMODE(there.st_mode):o}), and let in whom "
            f"they like; see that it is right, then: chmod go-w {path}"
        )
    if owners is not None and there.st_uid not in owners:
        raise ConfigError(
            f"{path}: is of uid {there.st_uid}, who could let in whom they like: it has to be of root, or of the "
            f"daemon's user (uid {os.geteuid()}); see that it is right, then: chown {os.geteuid()} {path}"
        )


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


Change = Mapping[str, Grant] | Callable[[Mapping[str, Grant]], Mapping[str, Grant]]


def edit(path: Path, change: Change, header: str = _HEADER) -> Mapping[str, Grant]:
    """Put these keys into the file, in the place of those of their names, and leave everything else as it is.

    ``change`` may be a function: of the keys that are in the file, while nobody else edits it. The file is replaced as
    a whole, so a daemon sees it before or after. Returns what was put. Raises ConfigError where it is wrong before, or
    would be afterwards.
    """
    with _only_editor(path):
        text, known = header, dict[str, Grant]()
        if path.exists():
            require_trusted(path)
            known = {grant.name: grant for grant in read_grants(path)}
            text = path.read_text(encoding="utf-8")
        changed = change(known) if callable(change) else change
        for name, grant in changed.items():
            text = _replaced(text, name, as_toml(grant))
        _require(text, {**known, **changed}, changed, path)
        _write(path, text)
    return changed


@contextlib.contextmanager
def _only_editor(path: Path) -> Iterator[None]:
    """Wait until nobody else edits the file. The lock is on its folder: the file itself is replaced."""
    try:
        descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: its folder cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise ConfigError(f"{path}: its folder cannot be locked: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def _require(text: str, wanted: Mapping[str, Grant], changed: Iterable[str], path: Path) -> None:
    """Raise ConfigError unless an edited text says what is wanted: of tables in a line of their own it always does."""
    found = {grant.name: grant for grant in read_authorised(text, str(path))}
    for name in changed:  # whose moments may have been written to the second
        if name in found:
            found[name] = replace(found[name], expires=wanted[name].expires)
    if found != wanted:
        others = ", ".join(repr(name) for name in wanted if found.get(name) != wanted[name])
        raise ConfigError(
            f"{path}: is written in a way in which this would change {others}, too: give each key a table of its own, "
            "which begins with a line [NAME], and try again; or change it in an editor"
        )


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "w", encoding="utf-8") as file:
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
