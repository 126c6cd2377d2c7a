"""docs/instruments.md: typed as a reader would; its other drivers evaluate a task each."""

from __future__ import annotations

import itertools
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import taskmaster
from helpers.documents import ROOT, code_blocks, document
from helpers.places import StartDaemon, short_folder
from helpers.reader import Reader, alike

from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab

TEXT = document("docs/instruments.md")
TOUR, OTHERS = TEXT.split("## Other drivers\n")
#: Ports that the document names.
PORTS = ("5025", "5026", "5100")


def free_ports() -> list[str]:
    """As many, of which the second follows the first."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            third.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return [str(port), str(port + 1), str(third.getsockname()[1])]


@pytest.fixture
def reader() -> Iterator[Reader]:
    with short_folder() as folder:
        reader = Reader(folder, alike)
        yield reader
        reader.close()


@pytest.mark.slow
def test_the_way_from_the_resource_string_to_the_first_result_and_beyond(reader: Reader) -> None:
    text = TOUR
    for port, free in zip(PORTS, free_ports()):
        text = text.replace(port, free)
    reader.follow(text)
    assert len(reader.commands) > 25
    assert reader.interrupt() == 0


# -- the other drivers ------------------------------------------------------------------------------------------------

MASTERS: dict[str, Any] = {
    name: master for block in code_blocks(OTHERS, "toml") for name, master in tomllib.loads(block)["masters"].items()
}
EVALUATED = {
    "source": ({"bias": 0.5}, 0.5),
    "meter": ({"what": "DCV"}, 1.25),
    "dot": ({"plunger": 3.0}, {"plunger": 3.0, "barrier": 50.0}),
    "lamp": ({"power": 0.5}, 60.0),
}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, pty=tmp_path_factory.mktemp("tty")) as laboratory:
        yield laboratory


@pytest.fixture(scope="module")
def lab(
    laboratory: Laboratory, start_shared_daemon: StartDaemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """All of them but the people and the supply, with what is simulated in the place of what is not here."""
    folder = tmp_path_factory.mktemp("path")
    for name, program in zip(("lamp", "incubator"), code_blocks(OTHERS, "python"), strict=True):
        (folder / f"{name}.py").write_text(program, encoding="utf-8")
    bench = ROOT / "config" / "examples" / "bench.yaml"
    changes: dict[str, dict[str, Any]] = {
        "source": {"resource": str(laboratory["tip-1"].pty)},
        "meter": {"backend": f"{bench}@sim"},
        "dot": {},
        "lamp": {"path": [str(folder)]},
        "incubator": {"path": [str(folder)]},
    }
    with start_shared_daemon({name: {**MASTERS[name], **keys} for name, keys in changes.items()}).connect() as lab:
        yield lab


@pytest.mark.parametrize("name", EVALUATED)
def test_an_instrument_of_another_driver_evaluates(name: str, lab: Lab) -> None:
    point, output = EVALUATED[name]
    assert lab[name].map([point]) == [output]


def test_a_long_task_goes_on_where_it_was_interrupted(lab: Lab) -> None:
    run = lab["incubator"].open("culture")
    run.tasks.put({"temperature": 30.0, "hours": 5})
    told = (point.values["hours"] for point in run.follow_progress())
    assert next(told) == 1
    lab.stop("incubator")
    assert lab["incubator"].statistics().state == "stopped"
    lab.reset("incubator")
    assert run.results.get(timeout=30).output == pytest.approx(0.5)
    rest = [*itertools.takewhile(lambda hour: hour != 5, told)]
    assert rest in ([2, 3, 4], [3, 4]), "what was kept and not yet told when it was stopped is not done again"


def test_what_has_no_simulation_of_its_own_is_tried_with_one(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    (supply,) = (block for block in code_blocks(OTHERS, "toml") if "[masters.supply]" in block)
    (scale,) = (block for block in code_blocks(OTHERS, "toml") if "[masters.scale]" in block)
    path.write_text(supply + scale, encoding="utf-8")
    said = taskmaster("check", path, "--simulate")
    assert said.status == 0, said.err
    for sent in (r"INST 1;VOLT \d\.\d{3}\n", r"MEAS:CURR\? 1 ", r"safe +INST 1;VOLT 0\n", r"supply +right "):
        assert re.search(sent, said.out), f"{sent} in {said.out}"


def test_every_master_of_the_page_is_tried() -> None:
    assert set(MASTERS) == {*EVALUATED, "incubator", "supply", "scale"}
