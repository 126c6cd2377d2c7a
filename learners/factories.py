"""Learners of our own from the text of their options, and what can be put around any learner."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.guards import Dedup, Pending
from taskmaster.learners.human import Human
from taskmaster.learners.inorder import InOrder
from taskmaster.learners.movecost import MoveCost
from taskmaster.learners.options import Options, names, yes
from taskmaster.learners.protocol import Learner
from taskmaster.learners.transforms import Form, Log, Mapped, Transform
from taskmaster.learners.travel import Travel

__all__ = ["WRAP", "evolution", "gp", "human", "wrapped"]

#: Options of what is put around a learner begin so; whatever follows it is not the learner's.
WRAP = "wrap."

_COUNT = "a whole number, at least 1"
_NUMBER = "a number"
_YES = "yes or no"
_NAMES = "names of parameters, like C,gamma"
_WAYS = "speeds of parameters in their units a second, or the seconds of a change: x:2e-6,y:2e-6,filter:30s"


def gp(parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]) -> Learner:
    """The optimum in few points, by a Gaussian process; minimize=OUTPUT or maximize=OUTPUT, log=C, noise=0.1, …."""
    from taskmaster.learners.gp import GaussianProcess

    given = Options("gp", options)
    chosen = _aim(given) | given.some(
        log=(names, _NAMES),
        kernel=(str, "matern or rbf"),
        acquisition=(str, "logei or ucb"),
        kappa=(float, _NUMBER),
        pending=(str, "fantasy, believer, liar or ignore"),
        noise=(float, "the standard deviation of the output's noise"),
        initial=(int, _COUNT),
        travel=(travel_of, _WAYS),
        heads=(int, _COUNT),
        dwell=(float, "the seconds of an evaluation"),
        price=(float, _NUMBER),
        n=(int, _COUNT),
    )
    given.end()
    learner = GaussianProcess(parameters, seed=seed, **chosen)
    learner.bind(parameters, outputs)
    return learner


def evolution(
    parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
) -> Learner:
    """The optimum in many cheap points, by differential evolution; minimize=OUTPUT or maximize=OUTPUT, members=40."""
    given = Options("evolution", options)
    chosen = _aim(given) | given.some(members=(int, _COUNT), n=(int, _COUNT))
    given.end()
    learner = Evolution(parameters, seed=seed, **chosen)
    learner.bind(parameters, outputs)
    return learner


def human(
    parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str]
) -> Learner:
    """A person, asked for each point at this terminal."""
    Options("human", options).end()
    if not sys.stdin.isatty():
        raise CallerError("learner 'human' asks a person at a terminal, and the input is none")
    return Human(parameters=parameters)


# -- around a learner -------------------------------------------------------------------------------------------------


def wrapped(
    make: Callable[[Sequence[Field], Sequence[Field], Mapping[str, str]], Learner],
    parameters: Sequence[Field],
    outputs: Sequence[Field],
    options: Mapping[str, str],
    name: str = "",
) -> Learner:
    """What ``make`` makes of parameters, outputs and its options, in what the options with ``wrap.`` say.

    - ``wrap.log=C,gamma`` has it see these by their logarithm;
    - ``wrap.output=yield`` has it see one of the outputs, and ``wrap.negate=yes`` with the other sign;
    - ``wrap.pending=0.02`` keeps its points so far from those in flight;
    - ``wrap.dedup=yes`` has nothing evaluated twice;
    - ``wrap.travel=x:2e-6,filter:30s`` takes the nearest of ``wrap.ahead=16`` points first;
    - ``wrap.in-order=16`` tells results in the order of asking, with so many points ahead.

    ``name`` is the learner's, for messages. Raises CallerError for what there is not, or does not fit.
    """
    around = {key.removeprefix(WRAP): value for key, value in options.items() if key.startswith(WRAP)}
    inner = {key: value for key, value in options.items() if not key.startswith(WRAP)}
    given = Options(name, around, WRAP)
    seen = given.some(log=(names, _NAMES), output=(str, "the name of an output"), negate=(yes, _YES))
    radius = given.take("pending", float, "a share of the parameters' ranges, like 0.02")
    once = given.take("dedup", yes, _YES)
    travel = given.take("travel", travel_of, _WAYS)
    ahead = given.take("ahead", int, _COUNT)
    in_order = given.take("in-order", int, _COUNT)
    given.end()
    if ahead is not None and travel is None:
        raise CallerError("option 'wrap.ahead' goes with 'wrap.travel'")
    learner = _transformed(make, parameters, outputs, inner, seen) if seen else make(parameters, outputs, inner)
    if around and isinstance(learner.learner if isinstance(learner, Transform) else learner, Human):
        raise CallerError(f"a person is asked as they are: learner 'human' goes without {WRAP}{next(iter(around))}")
    if radius is not None:
        learner = Pending(learner, radius, parameters)
    if once:
        learner = Dedup(learner)
    if travel is not None:
        travel.require_of(parameters)
        learner = MoveCost(learner, travel) if ahead is None else MoveCost(learner, travel, ahead=ahead)
    return learner if in_order is None else InOrder(learner, in_order)


def _transformed(
    make: Callable[[Sequence[Field], Sequence[Field], Mapping[str, str]], Learner],
    parameters: Sequence[Field],
    outputs: Sequence[Field],
    options: Mapping[str, str],
    seen: Mapping[str, Any],
) -> Learner:
    """A learner made for what it sees."""
    mapped: dict[str, Mapped] = {name: Log() for name in seen.get("log", ())}
    form = Form(mapped, seen.get("output"), seen.get("negate", False))
    learner = make(form.parameters(parameters), form.outputs(outputs), options)
    wrapper = Transform(learner, mapped, output=form.output, negate=form.negate)
    wrapper.bind(parameters, outputs)  # that it keeps to the Master's limits also before a Loop binds it
    return wrapper


def travel_of(text: str) -> Travel:
    """Speeds, ``x:2e-6``, and the seconds that a change takes, ``filter:30s``. Raises ValueError for anything else."""
    pairs = [part.rpartition(":") for part in names(text)]
    changes = {name.strip(): float(number[:-1]) for name, _, number in pairs if number.endswith("s")}
    return Travel({name.strip(): float(number) for name, _, number in pairs if not number.endswith("s")}, changes)


def _aim(given: Options) -> dict[str, Any]:
    """Which output is learnt, and whether its largest value is wanted: ``minimize=loss``, ``maximize=yes``."""
    output = given.take("output", str, "the name of an output")
    wanted = {key: given.take(key, str, "the name of an output") for key in ("minimize", "maximize")}
    named = [(key, text) for key, text in wanted.items() if text is not None]
    if not named:
        return {} if output is None else {"output": output}
    if len(named) > 1:
        raise CallerError("options 'minimize' and 'maximize' do not go together: one output is learnt")
    ((key, text),) = named
    try:
        is_so = yes(text)
    except ValueError:
        if output not in (None, text):
            raise CallerError(f"options 'output' and {key!r} name two outputs, {output!r} and {text!r}") from None
        output, is_so = text, True
    aim: dict[str, Any] = {"maximize": is_so if key == "maximize" else not is_so}
    return aim if output is None else aim | {"output": output}
