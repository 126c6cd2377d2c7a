"""The heads of the examples that ship, at the simulated laboratory: from the file to what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskmaster.bus.fields import Schema
from taskmaster.config.heads import heads_of
from taskmaster.config.load import load
from taskmaster.config.shipped import example
from taskmaster.drivers.instruments import CommandHead, Commands, HeadContext
from taskmaster.drivers.simulated import HeadAddress, Laboratory


@contextmanager
def first_head(name: str, master: str, address: HeadAddress) -> Iterator[CommandHead]:
    """The first head of an example, but for where it is."""
    settings = load(example(name)).masters[master]
    options: dict[str, Any] = {**heads_of(settings.options.model_dump())[0], "resource": address.resource}
    outputs = Schema(settings.output_fields, master, "output")
    context = HeadContext(options["name"], master, options, outputs=outputs)
    head = CommandHead(context, Commands.from_options(options, outputs, settings.driver))
    try:
        yield head
    finally:
        head.close()


def test_the_probe() -> None:
    with Laboratory("probe", heads=1, settling=0) as probe, first_head("stm", "stm", probe.heads[0]) as head:
        head.open()
        head.feed_watchdog()
        assert head.evaluate({"bias": 1.2, "x": 100.0, "y": 50.0})["current"] > 1e-12
        assert probe.control.truth("tip-1")["bias"] == 1.2
        counts = probe.control.actions("tip-1").counts
        assert (counts["BIAS"], counts["POS"], counts["MEAS:CURR?"], counts["WDOG"]) == (3, 1, 1, 1)
        for watched in (head.options["interlocks"], head.options["monitor"]):
            assert 15 < head.ask(head.commands.query(watched["temperature"])) < 40
        head.safe()
        assert probe.control.truth("tip-1")["approached"] == 0


def test_a_chamber() -> None:
    with (
        Laboratory("chambers", count=1, factor=1000) as chambers,
        first_head("chambers", "chambers", chambers.heads[0]) as head,
    ):
        head.open()
        output = head.evaluate({"temperature": 25.0, "humidity": 60.0, "light": 500.0, "co2": 500.0})
        assert output.keys() == {"mass", "leaf_area", "air"}
        assert output["air"] == pytest.approx(20, abs=10)
        assert head.ask(head.commands.query({**head.options["interlocks"]["door"], "parse": "text"})) == "CLOSED"
        head.safe()
        assert chambers.control.actions(chambers.heads[0].name).actions[-1].command == "STAN"
