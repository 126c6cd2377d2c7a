"""Writes the files of a service and takes them away again, and never what somebody has changed by hand."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from taskmaster.bus.errors import CallerError
from taskmaster.cli.units import SHARED, Service, UnitFile, is_ours

__all__ = ["State", "differences", "installed", "outdated", "remove", "state_of", "write"]

#: A file that is to be written is not there, is there already, is one that this command has written before, or is
#: somebody's own.
State = Literal["new", "same", "older", "changed"]

#: A unit has a folder for each of these that it is wanted by, and its drop-ins.
_DROP_INS = "{unit}.d"


def state_of(file: UnitFile) -> State:
    """How what lies at a file's path compares with what is to be written there."""
    there = _text(file.path)
    if there is None:
        return "new"
    if there == file.text:
        return "same"
    return "older" if is_ours(there) else "changed"


def differences(file: UnitFile) -> str:
    """What would change in a file that is there, as `diff -u` has it."""
    there = (_text(file.path) or "").splitlines(keepends=True)
    wanted = file.text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(there, wanted, f"{file.path} (there)", f"{file.path} (to be written)"))


def write(files: Iterable[UnitFile], *, force: bool) -> None:
    """Write those that are not there as they should be, all or none.

    Raises CallerError, with what is different, where one was changed by hand and ``force`` does not say that it may go.
    """
    files = list(files)
    changed = [file for file in files if state_of(file) == "changed"]
    if changed and not force:
        shown = "\n".join(differences(file) for file in changed)
        names = ", ".join(str(file.path) for file in changed)
        raise CallerError(
            f"{names} {'is' if len(changed) == 1 else 'are'} not as this command has written it; nothing was changed. "
            "Keep changes in a drop-in (systemctl edit), or write over them with --force. What would change:\n"
            f"{shown.rstrip()}"
        )
    for file in files:
        if state_of(file) == "same":
            continue
        file.path.parent.mkdir(parents=True, exist_ok=True)
        # At once, whatever happens: systemd may read it at any time.
        fresh = file.path.with_name(f".{file.path.name}.new")
        fresh.write_text(file.text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(file.path)


def outdated(service: Service, files: Iterable[UnitFile]) -> list[Path]:
    """What this command has written for a group that the configuration does not name any more."""
    wanted = {file.path for file in files}
    paths = [] if service.user or service.worker else [service.sharing]
    return [path for path in paths if path not in wanted and is_ours(_text(path) or "")]


def installed(service: Service) -> list[Path]:
    """The files of a service that are there, and those of all services if it is the last one."""
    found = [*_drop_ins(service), *([] if service.user or service.worker else [service.sharing])]
    if not _others(service):
        found.append(service.folder / service.template)
        if not service.user and not _any_unit(service):
            found += [service.root / place for place, _ in SHARED.values()]
    return [path for path in found if path.exists()]


def remove(paths: Sequence[Path], *, force: bool) -> list[Path]:
    """Delete the files that this command has written, and folders that are empty then; returns what is left alone."""
    left = [path for path in paths if not force and not is_ours(_text(path) or "")]
    for path in paths:
        if path not in left:
            path.unlink()
            with contextlib.suppress(OSError):  # it is not empty
                if path.parent.suffix == ".d":
                    path.parent.rmdir()
    return left


def _drop_ins(service: Service) -> Iterator[Path]:
    folder = service.folder / _DROP_INS.format(unit=service.unit)
    yield from (path for path in sorted(folder.glob("*.conf")) if is_ours(_text(path) or "") or _is_named_as_ours(path))


def _is_named_as_ours(path: Path) -> bool:
    return path.name[:3] in ("10-", "20-")


def _others(service: Service) -> bool:
    """Whether another service has the same unit file."""
    if not service.name:
        return False
    kind, _, _ = service.template.partition("@")
    wanted = {path.name for path in service.folder.glob(f"*.wants/{kind}@*.service")}
    dropped = {path.name.removesuffix(".d") for path in service.folder.glob(f"{kind}@*.service.d")}
    return bool((wanted | dropped) - {service.unit})


def _any_unit(service: Service) -> bool:
    """Whether a unit of ours stays."""
    units = service.folder.glob("taskmaster*.service")
    return any(path.name != service.template for path in units)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
