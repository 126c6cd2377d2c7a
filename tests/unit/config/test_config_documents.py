"""What is made from the settings or shipped beside them: examples, JSON Schema, reference."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.documents import code_blocks, document
from jsonschema import Draft202012Validator

from taskmaster.bus.errors import ConfigError
from taskmaster.config import reference
from taskmaster.config.base import Settings, declared
from taskmaster.config.commands import CommandSettings, ErrorsSettings, RampSettings, ReadSettings, WaitSettings
from taskmaster.config.gpu import GpuOptions
from taskmaster.config.instruments import InstrumentClassOptions
from taskmaster.config.load import load, loads
from taskmaster.config.options import DriverOptions, FunctionOptions
from taskmaster.config.safety import QueryInterlock, QueryWatchdog
from taskmaster.config.schema import json_schema
from taskmaster.config.settings import BUILTIN_DRIVERS, DaemonSettings, MasterKeys, OutputSettings, ParameterSettings
from taskmaster.config.shipped import example, examples

ROOT = Path(__file__).parents[3]


def read(name: str) -> dict[str, Any]:
    return tomllib.loads(example(name).read_text(encoding="utf-8"))


# -- examples ----------------------------------------------------------------------------------------------------------


def test_the_shipped_examples() -> None:
    assert examples() == ("chambers", "full", "growth", "instruments", "minimal", "pymeasure", "qcodes", "stm", "svm")
    with pytest.raises(ConfigError, match="there is no example 'smv'; did you mean 'svm'"):
        example("smv")


@pytest.mark.parametrize("name", examples())
def test_an_example_is_right_wherever_it_is_copied(name: str, tmp_path: Path) -> None:
    text = example(name).read_text(encoding="utf-8")
    assert text.startswith("# ")
    shutil.copytree(example(name).parent, tmp_path / "lab")
    config = load(tmp_path / "lab" / f"{name}.toml")
    for master in config.masters.values():
        for named in master.options.importables().values():
            module, _, function = named.partition(":")
            if function == "*":  # all that there is
                assert importlib.import_module(module)
            elif module.partition(".")[0] not in ("pymeasure", "qcodes"):  # these are run, see test_libraries.py
                assert callable(getattr(beside(tmp_path / "lab" / f"{module}.py"), function))
            assert isinstance(master.options, FunctionOptions | GpuOptions | InstrumentClassOptions)
            assert master.options.path == (tmp_path / "lab",)


def test_the_full_examples_have_every_key() -> None:
    full, instruments = read("full"), read("instruments")
    assert full["daemon"].keys() == DaemonSettings.model_fields.keys()
    used = {key for document in (full, instruments) for master in document["masters"].values() for key in master}
    models: list[type[Settings]] = [MasterKeys, *BUILTIN_DRIVERS.values()]
    assert used == {key for model in models for key in declared(model)}
    masters = full["masters"].values()
    tables = [
        table for master in masters for role in ("parameters", "outputs") for table in master.get(role, {}).values()
    ]
    assert {key for table in tables for key in table} == ParameterSettings.model_fields.keys()
    assert {name for name, _ in properties(json_schema())} <= {*names(full), *names(instruments)}


def names(document: Any) -> Iterator[str]:
    """All keys in a document, at any depth."""
    for value in document.values() if isinstance(document, dict) else document:
        if isinstance(value, dict | list):
            yield from names(value)
    if isinstance(document, dict):
        yield from document


def beside(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_function_learns_digits() -> None:
    module = beside(example("svm").parent / "digits.py")
    good, bad = {"log_C": 1.0, "log_gamma": -1.5}, {"log_C": -2.0, "log_gamma": -6.0}
    assert module.accuracy(good) > 0.95
    assert module.accuracy(bad) < 0.3
    assert module.accuracy(good) == module.accuracy(good)
    assert module.picture(exposure=10.0, filter="red", frames=3).shape == (8, 8)


# -- JSON Schema -------------------------------------------------------------------------------------------------------


def accepts(schema: Mapping[str, Any], text: str) -> bool:
    return bool(Draft202012Validator(schema).is_valid(tomllib.loads(text)))


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """All keys that a schema declares, at any depth."""
    for name, part in (
        schema.items() if isinstance(schema, dict) else enumerate(schema if isinstance(schema, list) else ())
    ):
        if name == "properties":
            yield from part.items()
        yield from properties(part)


def test_the_schema_is_one_and_describes_every_key() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    keys = dict(properties(schema))
    assert keys.keys() > {"durability", "driver", "memory_limit", "threads", "choices"}
    assert [name for name, key in keys.items() if not key.get("description")] == []
    assert "null" not in str(schema)


@pytest.mark.parametrize("name", examples())
def test_the_schema_takes_the_examples(name: str) -> None:
    Draft202012Validator(json_schema()).validate(read(name))


MASTER = "[masters.svm]\ndriver = 'process'\nfunction = 'a:b'\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        MASTER + "timout = '1 s'",
        MASTER + "timeout = '1 parsec'",
        MASTER + "timeout = true",
        MASTER + "max_attempts = 0",
        MASTER + "threads = 3",
        MASTER + "on_lost = 'rety'",
        MASTER + "memory_limit = 1.5",
        MASTER + "parameters.x = [0, 1]",
        MASTER + "parameters.x = { mim = 0 }",
        MASTER + "parameters.x = { choices = [] }",
        MASTER.replace("process", "proces"),
        MASTER.replace("a:b", "a.b"),
        MASTER.replace("svm", "9lives"),
        "[masters.svm]\nfunction = 'a:b'",
        "[daemon]\nlisten = '5570'\n" + MASTER,
        "[deamon]\n" + MASTER,
    ],
)
def test_the_schema_refuses_what_the_settings_refuse(text: str) -> None:
    assert accepts(json_schema(), MASTER)
    assert not accepts(json_schema(), text)
    with pytest.raises(ConfigError):
        loads(text)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (MASTER + "wokers = 2", "'wokers' was unexpected"),
        (MASTER + "workers = -1", "-1 is less than the minimum of 0"),
        (
            MASTER.replace("process", "proces"),
            "'proces' is not one of ['process', 'thread', 'gpu', 'visa', 'serial', 'instrument', 'human']",
        ),
        ("[masters.svm]\nfunction = 'a:b'", "'driver' is a required property"),
    ],
)
def test_a_mistake_is_named_by_the_schema(text: str, mistake: str) -> None:
    (error,) = Draft202012Validator(json_schema()).iter_errors(tomllib.loads(text))
    assert mistake in error.message


def test_the_schema_has_third_parties_drivers() -> None:
    class Probe(DriverOptions):
        resource: str

    schema = json_schema({**BUILTIN_DRIVERS, "probe": Probe})
    Draft202012Validator.check_schema(schema)
    text = "[masters.probe]\ndriver = 'probe'\nresource = 'ASRL1::INSTR'"
    assert accepts(schema, text + "\ntimeout = '1 s'")
    assert accepts(schema, MASTER)
    assert not accepts(schema, text + "\nworkers = 1")
    assert not accepts(json_schema(), text)


def test_defaults_in_the_schema_are_the_defaults() -> None:
    schema = json_schema()
    keys = schema["properties"]["daemon"]["properties"]
    defaults = {name: key["default"] for name, key in keys.items() if "default" in key}
    document = {"daemon": defaults, "masters": tomllib.loads(MASTER)["masters"]}
    Draft202012Validator(schema).validate(document)
    written = "\n".join(f"{name} = {value!r}" for name, value in defaults.items())
    assert defaults.keys() >= {"durability", "heartbeat", "max_message"}
    assert loads(f"[daemon]\n{written}\n{MASTER}").daemon == loads(MASTER).daemon


# -- reference ---------------------------------------------------------------------------------------------------------


def test_the_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference.render(), "run: python -m taskmaster.config.reference > docs/configuration.md"


def test_the_reference_names_every_key() -> None:
    text = reference.render()
    models: list[type[Settings]] = [DaemonSettings, MasterKeys, ParameterSettings, OutputSettings]
    models += BUILTIN_DRIVERS.values()
    models += [CommandSettings, ReadSettings, WaitSettings, ErrorsSettings, RampSettings, QueryInterlock, QueryWatchdog]
    assert [key for model in models for key in declared(model) if f"\n| `{key}` |" not in text] == []


# -- pages with configurations -----------------------------------------------------------------------------------------


def test_the_configurations_of_the_safety_page_are_right() -> None:
    blocks = code_blocks(document("docs/safety.md"), "toml")
    masters = [master for block in blocks for master in loads(block).masters.values()]
    assert {name for master in masters for name in master.options.model_dump().get("interlocks", {})} >= {
        "door",
        "apart",
    }
