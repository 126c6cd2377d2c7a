"""The suite for heads: every driver of instruments passes it, and heads that are wrong are told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.commandheads import OUTPUTS, PROBE

from taskmaster.bus.fields import Field, Schema
from taskmaster.config.shipped import example
from taskmaster.drivers.instruments import CommandHead, Head
from taskmaster.drivers.instruments.classes import make_head
from taskmaster.drivers.instruments.errors import Unreachable
from taskmaster.drivers.simulated import HeadAddress, Laboratory
from taskmaster.drivers.testing import CHECKS, Bench, check_head

pytestmark = [
    pytest.mark.filterwarnings("ignore:It is not known whether this device support SCPI:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

# -- every driver -----------------------------------------------------------------------------------------------------

POINTS = [{"bias": 0.5, "x": 10.0, "y": 20.0}, {"bias": -0.5, "x": 30.0, "y": 20.0}]
#: It takes seconds to get there.
FAR = {"bias": 0.5, "x": 400.0, "y": 400.0}


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, settling=0.05, pty=tmp_path_factory.mktemp("tty")) as probe:
        yield probe


def described(probe: Laboratory, way: Callable[[HeadAddress], str | None]) -> Bench:
    (tip,) = probe.heads

    def actions() -> int:
        return sum(action.kind == "set" for action in probe.control.actions(tip.name).actions)

    return Bench(
        CommandHead,
        POINTS,
        {"resource": way(tip), "identity": tip.identity, "query_timeout": 0.3, "commands": PROBE},
        OUTPUTS,
        name=tip.name,
        slow=FAR,
        actions=actions,
        unplug=lambda: probe.control.unplug(tip.name),
        replug=lambda: probe.control.replug(tip.name),
    )


class Plant(Head):
    """One's own: it grows while it is looked at, and goes on growing where it was left."""

    def evaluate(self, x: dict[str, float]) -> Any:
        return self._grow(x, 0)

    def resume(self, x: dict[str, float], token: bytes) -> Any:
        return self._grow(x, int(token))

    def _grow(self, x: dict[str, float], first: int) -> Iterator[dict[str, float]]:
        self.begin_acting()
        for day in range(first, 3):
            self.sleep(0.01)
            self.checkpoint(str(day + 1))
            yield {"height": (day + 1) * x["water"]}
        return {"height": 3 * x["water"]}  # type: ignore[return-value]


SUBJECTS: dict[str, Callable[[Laboratory], Bench]] = {
    "visa": lambda probe: described(probe, lambda tip: tip.resource),
    "visa, serial line": lambda probe: described(probe, lambda tip: tip.pty_resource),
    "serial": lambda probe: described(probe, lambda tip: tip.pty),
    "instrument, own": lambda probe: Bench(Plant, [{"water": 2.0}], outputs=Schema([Field("height")], "bench")),
    "instrument, class": lambda probe: Bench.of_config(example("instruments"), "lamp", [{"power": 0.5}]),
    "instrument, PyMeasure": lambda probe: Bench.of_config(
        example("pymeasure"), "generator", [{"frequency": 1e3, "amplitude": 1.0}], "right"
    ),
    "instrument, QCoDeS": lambda probe: Bench.of_config(example("qcodes"), "dot", [{"plunger": 1.0}, {"plunger": 2.0}]),
    "instrument, ophyd-async": lambda probe: Bench(
        make_head,
        [{"position": 1.0}, {"position": 2.0}],
        {
            "class": "ophyd_async.sim:SimMotor",
            "init": [{"velocity": 100.0, "acceleration_time": 0.01}],
            "set": {"position": {"method": "set"}},
            "read": {"position": "user_readback"},
            "safe": ["stop"],
        },
        parameters=Schema([Field("position")], "bench"),
        slow={"position": 1000.0},
    ),
    "instrument, QCoDeS on a bus": lambda probe: Bench.of_config(
        example("qcodes"), "microwaves", [{"frequency": 1e9, "power": 0.0}]
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_driver(subject: str, check: Callable[[Bench], None], probe: Laboratory) -> None:
    check(SUBJECTS[subject](probe))


# -- heads that are wrong ---------------------------------------------------------------------------------------------


class Meter(Head):
    """Of an instrument that counts what it is told."""

    told: list[str]

    def evaluate(self, x: Any) -> Any:
        self.begin_acting()
        self.told.append("set")
        return 1.0


class Hasty(Meter):
    marks_acting = True

    def evaluate(self, x: Any) -> Any:
        self.told.append("set")
        self.begin_acting()
        return 1.0


class Silent(Meter):
    marks_acting = True

    def evaluate(self, x: Any) -> Any:
        self.told.append("set")
        return 1.0


class Deaf(Meter):
    def evaluate(self, x: Any) -> Any:
        time.sleep(0.3)  # which no stop reaches
        return 1.0


class Anxious(Meter):
    def safe(self) -> None:
        if self.stopping.is_set():
            raise Unreachable("it was stopped")


class Once(Meter):
    opened = False

    def open(self) -> None:
        if self.opened:
            raise Unreachable("it is open")
        self.opened = True


class Wordless(Meter):
    def identify(self) -> Any:
        return None


class Strange(Meter):
    def evaluate(self, x: Any) -> Any:
        return object()


class Forgetful(Meter):
    def evaluate(self, x: Any) -> Any:
        self.checkpoint(b"half way")
        return 1.0


class Curious(Meter):
    def read(self) -> Any:
        self.told.append("set")
        return 1.0


class Restless(Meter):
    def reconcile(self, x: Any, token: bytes) -> Any:
        return None


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Hasty, r"1 actions came before self\.begin_acting\(\)"),
        (Silent, r"evaluate does not call self\.begin_acting\(\)"),
        (Deaf, r"went on for \d+ ms after the head was stopped; wait with self\.sleep"),
        (Anxious, "it was stopped"),
        (Once, "it is open"),
        (Wordless, "identify has to return text, not None"),
        (Strange, "the output of 1, .*, is not what is declared"),
        (Forgetful, r"Forgetful has no resume\(self, x, token\)"),
        (Curious, "read acts; it may only look"),
        (Restless, "reconcile has to return a Reconciled, not None"),
    ],
)
def test_a_head_that_is_wrong(kind: type[Meter], says: str) -> None:
    told: list[str] = []
    kind = type(kind.__name__, (kind,), {"told": told})
    with pytest.raises((AssertionError, Unreachable, NotImplementedError), match=says):
        check_head(Bench(kind, [1, 2], actions=lambda: len(told)))


def test_one_that_does_not_miss_its_instrument() -> None:
    with pytest.raises(AssertionError, match="the plug is out, and nothing says so: raise a LinkError"):
        check_head(Bench(type("Calm", (Meter,), {"told": []}), [1], unplug=lambda: None, replug=lambda: None))


def test_one_that_is_right() -> None:
    told: list[str] = []
    check_head(Bench(type("Right", (Meter,), {"told": told}), [1, 2], actions=lambda: len(told)))


def test_what_is_no_head() -> None:
    with pytest.raises(AssertionError, match="is no Head: derive its class"):
        check_head(Bench(lambda context: object(), [1]))  # type: ignore[arg-type, return-value]
    with pytest.raises(AssertionError, match="has no Master 'smt'; it has stm"):
        Bench.of_config(example("stm"), "smt", [{}])
