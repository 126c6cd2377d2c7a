"""What a run goes through in a rehearsal: a learner that minds everything, and what becomes of its tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.rehearsal import Rehearsal, RehearsedRun, Stage
from taskmaster.bus import messages as m, values
from taskmaster.bus.table import pack_values
from taskmaster.learners.loop import Loop

__all__ = ["Killed", "Play", "Rambler", "live"]


class Rambler:
    """Asks what depends on everything that it was ever asked and told, to the last bit and in this order."""

    def __init__(self, fields: bool) -> None:
        self.seen: list[bytes] = []
        self.state = 1
        self._fields = fields
        self._out = 0

    def seed(self, rng: np.random.Generator) -> None:
        self.state = int(rng.integers(1 << 30))

    def ask(self, n: int) -> list[Any]:
        self._see(("ask", n))
        n = n if not self._out or self.state % 3 else n // 2  # now and then fewer, or none
        self._out += n
        return [self._point() for _ in range(n)]

    def tell(self, point: Any, output: Any) -> None:
        self._out -= 1
        self._see(("tell", point, output))

    def fail(self, point: Any, error: BaseException) -> None:
        self._out -= getattr(error, "kind", "") != "Edited"
        self._see(("fail", point, type(error).__name__, str(error)))

    def _see(self, what: Any) -> None:
        self.seen.append(values.encode(what))
        self.state = (self.state * 69069 + sum(self.seen[-1])) % (1 << 32)

    def _point(self) -> Any:
        self.state = (self.state * 69069 + 1) % (1 << 32)
        x = self.state / (1 << 32) - 0.5
        if self._fields:
            return {"x": x, "y": -0.0 if self.state % 3 else x * x}
        odd = (x, [x, "text"], {"deep": (1, 2.5)}, np.arange(self.state % 4) * x, math.nan, -0.0, np.float64(x), None)
        return odd[self.state % len(odd)]


@dataclass
class Play:
    """What becomes of tasks: ``choices`` says so, one number after the other; when they are used up all are done."""

    choices: Iterator[int]
    #: what the Master makes of a point
    evaluate: Callable[[Any], Any] = lambda point: sum(values.encode(point)) / 7
    #: what somebody who has to approve a point makes of it, and of its index
    edit: Callable[[Any, int], Any] = lambda point, index: float(index)
    edits: int = 0

    def __call__(self, run: RehearsedRun) -> None:
        """One or some of the open tasks end."""
        stage, of = run.master.stage, run.master.stage.run(run.number)
        indices = [index for low, high in of.open for index in range(low, high)]
        assert indices, "nothing is open, and a result is waited for"
        choice = next(self.choices, 3)
        index = indices[choice // 16 % len(indices)]
        n = 1 + (choice // 8 % 2 and index + 1 in indices)
        what, lost = choice % 8, choice // 4 % 4 == 3
        if what == 0:
            effects = stage.say(m.Cancel(1, run.number, ((index, index + n),)))
        elif what in (1, 2):
            effects = stage.end(run.number, index, n, None)
        else:
            if what == 4 and index in of.proposed:
                self._edit(run, index)
            inputs = [row for table in of.inputs(index, index + n) for row in table.rows()]
            if len({table.layout for table in of.inputs(index, index + n)}) > 1:
                inputs, n = inputs[:1], 1
            effects = stage.end(run.number, index, n, [self.evaluate(point) for point in inputs])
        run.publish(effects, lost=lost)

    def _edit(self, run: RehearsedRun, index: int) -> None:
        stage = run.master.stage
        schema = stage.spec.parameters
        ((asked,),) = (table.rows() for table in stage.run(run.number).inputs(index, index + 1))
        table = schema.pack_rows([(0.25, float(index))]) if schema.fields else pack_values([self.edit(asked, index)])
        edit = m.Edit(1, run.number, index, table.layout, 0)
        stage.ask(edit, m.Done, table)
        self.edits += 1


class Killed(BaseException):
    """The process ends here."""


def live(
    stage: Stage, learner: Any, play: Play, *, events: int, in_flight: int, retries: int, goal: int, name: str = "run"
) -> tuple[RehearsedRun, Loop]:
    """A loop in a process of its own, which is killed after some results; what has not been sent then is lost."""
    lab = Rehearsal(stage, play)

    def die() -> None:
        if loop.told + loop.failed >= events:
            raise Killed

    def hook(loop: Loop, result: Any) -> None:
        if events % 2:  # else it dies when it has put something that does not arrive
            die()

    loop = Loop(lab, learner, goal=goal, in_flight=in_flight, retries=retries, max_failures=None, name=name, hook=hook)
    if loop.run_.metadata["in_flight"] != str(in_flight):
        loop.in_flight = in_flight
    lab.before = die
    try:
        loop.run()
        loop.run_.close()
    except Killed:
        pass
    run: Any = loop.run_
    return run, loop
