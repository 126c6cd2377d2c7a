"""Drivers are found by name, functions by module and name; what is missing is said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Schema
from taskmaster.drivers.base import Driver, DriverContext
from taskmaster.drivers.functions import add_to_path, find_function
from taskmaster.drivers.process import BatchFunctionDriver, FunctionDriver, ThreadDriver
from taskmaster.drivers.registry import driver_class, driver_names

MODULE = """
log = []
number = 3

def square(x):
    return x * x

def closing():
    log.append("closed")

def keywords(a, b):
    return a - b

class Inside:
    @staticmethod
    def cube(x):
        return x**3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder with ``functions_of_a_test`` in it, and a module that imports what is not there."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "functions_of_a_test.py").write_text(MODULE)
    (tmp_path / "needy_of_a_test.py").write_text("import nowhere_to_be_found")
    yield str(tmp_path)
    sys.modules.pop("functions_of_a_test", None)


def test_a_function_is_found_in_the_folders_first(folder: str) -> None:
    assert find_function("functions_of_a_test:square", [folder])(3) == 9
    assert find_function("functions_of_a_test:Inside.cube")(2) == 8
    add_to_path(["/first", "/second", folder])
    assert sys.path[:2] == ["/first", "/second"]
    assert sys.path.count(folder) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_to_be_found:f", "no module 'nowhere_to_be_found' in "),
        ("functions_of_a_test:sqare", r"functions_of_a_test\.py\) has no 'sqare'; did you mean 'square'\?"),
        ("functions_of_a_test:Inside.quark", "has no 'Inside.quark'"),
        ("functions_of_a_test:number", "is a int, not something to call"),
    ],
)
def test_what_is_no_function_is_said(folder: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^function '{name}'.*{said}"):
        find_function(name, [folder])


def test_what_a_module_lacks_is_its_own_affair(folder: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        find_function("needy_of_a_test:f", [folder])


def opened(driver: str, **options: Any) -> Driver:
    kind = driver_class(driver, options)
    made = kind(DriverContext("m", options, Schema((), "m"), Schema((), "m", "output")))
    made.open()
    return made


def test_a_driver_calls_the_function_as_it_is_told(folder: str) -> None:
    common = {"path": [folder], "setup": "functions_of_a_test:log.clear"}
    assert opened("process", function="functions_of_a_test:square", **common).evaluate(3) == 9
    keywords = opened("process", function="functions_of_a_test:keywords", call="keywords", **common)
    assert keywords.evaluate({"a": 3, "b": 1}) == 2
    batch = opened("thread", function="functions_of_a_test:square", batch=True, threads=3, **common)
    assert (batch.batch, batch.slots, batch.evaluate_batch(4, 1)) == (True, 3, 16)
    assert opened("process", code=cloudpickle.dumps(lambda x: x + 1)).evaluate(1) == 2
    task = cloudpickle.dumps((divmod, (7,), {}))
    with pytest.raises(TypeError):
        opened("process", call="task").evaluate(task)
    assert opened("process", call="task").evaluate(cloudpickle.dumps((divmod, (7, 2), {}))) == (3, 1)


def test_a_teardown_is_run_once(folder: str) -> None:
    add_to_path([folder])
    driver = opened("process", function="functions_of_a_test:square", teardown="functions_of_a_test:closing")
    log = find_function("functions_of_a_test:log.copy")
    assert log() == []
    driver.close()
    driver.close()
    assert log() == ["closed"]
    FunctionDriver(driver.context).close()  # which was never opened


def test_a_driver_of_one_kind_says_so_where_it_is_asked_for_the_other() -> None:
    context = DriverContext("m", {}, Schema((), "m"), Schema((), "m", "output"))
    with pytest.raises(NotImplementedError, match="ThreadDriver evaluates one task at a time"):
        ThreadDriver(context).evaluate_batch([], 0)
    with pytest.raises(NotImplementedError, match="BatchFunctionDriver evaluates batches only"):
        BatchFunctionDriver(context).evaluate(0)


def test_a_driver_that_nobody_knows_is_refused() -> None:
    assert {"process", "thread"} <= set(driver_names())
    with pytest.raises(ConfigError, match="driver 'proces' is unknown; did you mean 'process'"):
        driver_class("proces", {})
