"""What all tables of the configuration have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field as PydanticField, JsonValue
from pydantic.fields import FieldInfo

__all__ = ["Conflict", "Settings", "declared", "setting"]


class Settings(BaseModel):
    """One table of the file: immutable, refuses unknown keys, converts nothing silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def declared(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that a table may have, as the file has them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


class Conflict(ValueError):
    """A validator's complaint that is about another key of the same table than the one being validated."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def setting(description: str, *, shown: str | None = None, example: str | None = None, **options: Any) -> Any:
    """A key with its description.

    ``shown`` is how the documentation writes a default that is computed (``"one for each CPU"``) or that has a unit
    (``"10 s"``); ``example`` is offered where the key is missing. ``options`` are pydantic's.
    """
    extra: dict[str, JsonValue] = {} if shown is None else {"x-default": shown}
    examples = None if example is None else [example]
    return PydanticField(description=description, examples=examples, json_schema_extra=extra, **options)
