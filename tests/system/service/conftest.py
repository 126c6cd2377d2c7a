"""A machine that systemd has booted, for the tests of a module, and services in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest
from helpers.booted import Machine, booted
from helpers.installed import Installed, Masters
from helpers.places import short_folder

#: ``install({"name": {keys of the Master}}, "--option", key=value of [daemon])``
Install: TypeAlias = Callable[..., Installed]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One for all tests of the module."""
    with short_folder() as folder, booted(folder) as machine:
        yield machine


@pytest.fixture
def install(machine: Machine) -> Iterator[Install]:
    """Installs services, which end with the test, and does not start them."""
    with ExitStack() as stack:

        def install(masters: Masters, *options: str, **daemon: Any) -> Installed:
            service = Installed(machine, masters, *options, **daemon)
            stack.callback(service.remove)
            stack.callback(lambda: print(service.log))  # pytest shows it where the test has failed
            return service

        yield install
