"""What is sent to an instrument: a command, or one together with what the instrument answers to it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field as PydanticField, WithJsonSchema

from taskmaster.bus.text import did_you_mean_or
from taskmaster.config.values import check_command, check_regex, show

__all__ = ["Commands"]

_KEYS = ("command", "answer")


def _read_sent(value: object) -> object:
    """A command, or one with the answer that it gets: ``{ command = "T={x:.1f}", answer = "OK" }``."""
    if not isinstance(value, dict):
        return check_command(_text(value))
    for key in value:
        if key not in _KEYS:
            raise ValueError(f"a command has no key {key!r}{did_you_mean_or(str(key), ('command', 'answer'))}")
    if "command" not in value:
        raise ValueError("command is missing; for example { command = 'VOLT {volt:.3f}', answer = 'OK' }")
    command = check_command(_text(value["command"]))
    if value.get("answer") is None:
        return command
    return {"command": command, "answer": check_regex(_text(value["answer"]))}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text in quotes, got {show(value)}")  # noqa: TRY004
    return value


_SENT = {
    "title": "command or table",
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "What is sent."},
                "answer": {"type": "string", "description": "What the instrument answers to it when all is well."},
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    ],
}
#: What is sent: text, or a mapping of `command` and `answer`.
Sent = Annotated[Any, BeforeValidator(_read_sent), WithJsonSchema(_SENT)]
Commands = Annotated[tuple[Sent, ...], PydanticField(strict=False)]
