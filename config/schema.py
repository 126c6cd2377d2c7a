"""The JSON Schema of the configuration file (draft 2020-12), for editors that complete and check TOML by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from taskmaster.config.operations import OPERATIONS
from taskmaster.config.settings import BUILTIN_DRIVERS, MASTER_NAME, DaemonSettings, DriverOptions, MasterKeys

__all__ = ["json_schema"]

#: What a schema says of a value without deciding whether it is right.
_ANNOTATIONS = ("description", "default", "examples")


class _TomlSchema(GenerateJsonSchema):
    """As pydantic makes it, but for a language without null and without titles that repeat the key."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return inner if default is None else {**inner, "default": self.encode_default(default)}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(drivers: Mapping[str, type[DriverOptions]] = BUILTIN_DRIVERS) -> dict[str, Any]:
    """The schema of a file whose Masters may name ``drivers``; every key has a description.

    What a Master may have follows from its key ``driver`` (by ``if`` and ``then``, so that a mistake is named and not
    only that none of the alternatives fits). Defaults that are worked out when the file is read are in words under
    ``x-default``.
    """
    sections: dict[str, type[BaseModel]] = {"daemon": DaemonSettings, **OPERATIONS}
    models: list[type[BaseModel]] = [*sections.values(), MasterKeys, *dict.fromkeys(drivers.values())]
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in models]
    references, generated = models_json_schema(wanted, schema_generator=_TomlSchema)
    definitions: dict[str, Any] = generated["$defs"]
    for definition in definitions.values():
        _polish(definition)
    tables = {model: definitions.pop(_name(references[model, "validation"])) for model in models}
    masters = {
        f"{name}-master": _master(name, tables[MasterKeys], tables[options], options.common_defaults)
        for name, options in drivers.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "TaskMaster configuration",
        "type": "object",
        "properties": {
            **{name: tables[model] for name, model in sections.items()},
            "masters": {
                "description": "The Masters that the daemon exposes, by name.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{MASTER_NAME.pattern}$"},
                "additionalProperties": _any_master(masters),
            },
        },
        "required": ["masters"],
        "additionalProperties": False,
        "$defs": {**definitions, **masters},
    }


def _master(driver: str, common: dict[str, Any], own: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a Master with this driver: the common keys, with its ``defaults``, and the driver's own."""
    choice = {**common["properties"]["driver"], "const": driver}
    shared = {
        key: {**schema, "default": defaults[key]} if key in defaults else schema
        for key, schema in common["properties"].items()
    }
    return {
        "description": own.get("description", f"A Master with the driver `{driver}`."),
        "type": "object",
        "properties": {**shared, "driver": choice, **own["properties"]},
        "required": [*common["required"], *own.get("required", ())],
        "additionalProperties": False,
    }


def _any_master(masters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A Master with any of the drivers. Every key is described besides, as some editors complete only what is."""
    described: dict[str, Any] = {}
    drivers: list[str] = []
    for master in masters.values():
        for key, schema in master["properties"].items():
            described.setdefault(key, {word: schema[word] for word in _ANNOTATIONS if word in schema})
        drivers.append(master["properties"]["driver"]["const"])
    described["driver"].update(type="string", enum=drivers)
    return {
        "type": "object",
        "properties": described,
        "required": ["driver"],
        "allOf": [
            {
                "if": {"properties": {"driver": {"const": driver}}, "required": ["driver"]},
                "then": {"$ref": f"#/$defs/{name}"},
            }
            for driver, name in zip(drivers, masters)
        ],
    }


def _polish(definition: dict[str, Any]) -> None:
    """Give defaults the way a person writes them, and no title where it is the name of a class."""
    definition.pop("title", None)
    for key in definition.get("properties", {}).values():
        if "default" in key and "x-default" in key:
            key["default"] = key.pop("x-default")


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
