"""The sections of a configuration about running a daemon: alarms, metrics, and how long runs are kept."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field as PydanticField, ValidationInfo, WithJsonSchema

from taskmaster.config.base import Settings, setting
from taskmaster.config.values import Folder, age, base_folder, duration, show, size

__all__ = ["OPERATIONS", "AlarmSettings", "MetricsSettings", "RetentionSettings"]

_ENDPOINT = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*):)?(?P<port>\d{1,5})")


def _read_program(value: object, info: ValidationInfo) -> object:
    """A program and its arguments; a program with a slash in its name is one relative to the file."""
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(word, str) and "\0" not in word for word in value)
    ):
        raise ValueError(f"expected a program and its arguments, such as ['./alarm.sh', 'lab-7'], got {show(value)}")
    program, *arguments = value
    if "/" in program:
        program = os.path.normpath(base_folder(info) / os.path.expanduser(program))
        if not (os.path.isfile(program) and os.access(program, os.X_OK)):
            raise ValueError(f"there is no program {program} that may be run; chmod +x it, or correct its name")
    return [program, *arguments]


def _read_endpoint(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _ENDPOINT.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"expected a port, or 'ADDRESS:PORT' such as '127.0.0.1:9469', got {show(value)}")
    host = match["host"] or "127.0.0.1"
    if host != "localhost":
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(
                f"expected the number of an address, such as '127.0.0.1' or '[::1]', got {host!r}"
            ) from None
    return f"{'127.0.0.1' if host == 'localhost' else host}:{match['port']}"


Room = Annotated[int, size()]
JournalSize = Annotated[int, size("1 MB")]
Program = Annotated[
    tuple[str, ...],
    PydanticField(strict=False),
    BeforeValidator(_read_program),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
Endpoint = Annotated[
    str,
    BeforeValidator(_read_endpoint),
    WithJsonSchema({"type": ["string", "integer"], "title": "address and port"}),
]


class AlarmSettings(Settings):
    """What is done when there is something that an operator should know; see `docs/operations.md`."""

    command: Program | None = setting(
        "A program that is run for each alarm that is raised, and when it is over, with the alarm as JSON on its "
        "standard input and in environment variables `TASKMASTER_ALARM_…`: one after the other, beside the daemon's "
        "work. A name with a `/` is relative to this file.",
        default=None,
    )
    timeout: Annotated[float, duration("10 ms")] = setting(
        "How long the program may take; past it, it is killed.", default=30.0, shown="30 s"
    )
    disk_low: Room | None = setting(
        "With less room free on the disk of `state`, beside what is kept back, there is an alarm. By default as much "
        "as `keep_free`.",
        default=None,
    )


class MetricsSettings(Settings):
    """Metrics for Prometheus and the daemon's health, over HTTP: `/metrics` and `/health`."""

    listen: Endpoint | None = setting(
        'Where to serve them: a port, on this machine only, or an address and a port, such as `"0.0.0.0:9469"`. '
        "Whoever can reach it may read them. By default they are not served.",
        default=None,
        example="9469",
    )


class RetentionSettings(Settings):
    """How long closed runs are kept. Others, and those with tasks in doubt, are kept whatever stands here."""

    closed: Annotated[float, age("1 s")] | None = setting(
        "Closed runs are deleted when their last event is so old. By default they are kept for good.", default=None
    )
    size: JournalSize | None = setting(
        "When the journal takes more than this, closed runs are deleted, those that ended first before others, until "
        "it takes less. By default it may grow.",
        default=None,
    )
    archive: Literal["parquet", "none"] = setting(
        "What becomes of a run before it is deleted: its results and progress are written to `folder` as `parquet` "
        '(which needs pyarrow), and read again; or, with `"none"`, nothing: what was measured is gone.',
        default="parquet",
    )
    folder: Folder | None = setting(
        "Where runs are archived, a folder for each Master. Relative to this file. By default `archive` in `state`.",
        default=None,
    )
    audit: Annotated[float, age("30 d")] | None = setting(
        "How long it is kept who has done what (`taskmaster audit`), 30 days at least. By default for good.",
        default=None,
    )
    every: Annotated[float, duration("1 s")] = setting(
        "How often it is looked for what is to be deleted.", default=3600.0, shown="1 h"
    )


#: The sections by name.
OPERATIONS: Mapping[str, type[Settings]] = {
    "alarms": AlarmSettings,
    "metrics": MetricsSettings,
    "retention": RetentionSettings,
}
