"""What every driver must do, in a real worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest
from helpers.driver_suite import BAD, INTERRUPT, NO_OUTPUT, SUBJECTS, WORSE, Stage, Subject

from taskmaster.bus import messages as m
from taskmaster.bus.messages import TaskError
from taskmaster.drivers.worker import EXIT_GOODBYE, EXIT_UNUSABLE

Set: TypeAlias = Callable[..., Stage]


@pytest.fixture(params=SUBJECTS)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Set]:
    """``stage()``: a worker with the driver, which has said hello; ``broken`` if it cannot be opened."""
    with ExitStack() as stack:
        yield lambda **keys: stack.enter_context(Stage(tmp_path, SUBJECTS[request.param], **keys))


def test_a_driver_is_opened_evaluates_and_is_closed(stage: Set) -> None:
    it = stage()
    it.hear(m.Ready)
    assert it.slots == it.subject.slots
    assert it.marks == ["opened"]
    assert it.evaluate([3.0]) == {0: {"y": 6.0}}
    ended = it.evaluate([1.0, BAD, NO_OUTPUT, 2.0, WORSE, 4.0])
    failed = {k: ended.pop(k) for k in (1, 2, 4)}
    assert ended == {0: {"y": 2.0}, 3: {"y": 4.0}, 5: {"y": 8.0}}, "nobody is the worse for the others"
    assert all(isinstance(error, TaskError) for error in failed.values())
    assert (failed[1].kind, failed[1].message) == ("ValueError", "a bad point")
    assert 'raise ValueError("a bad point")' in failed[1].traceback
    assert "output 'y'" in failed[2].message
    assert (failed[4].kind, failed[4].message) == ("SystemExit", "a worse point")
    assert it.evaluate([5.0]) == {0: {"y": 10.0}}
    it.say(m.Goodbye("that was all"))
    assert it.exit_status() == EXIT_GOODBYE
    assert it.marks == ["opened", "evaluated", "closed"]


def test_a_driver_that_cannot_be_opened_says_why_and_is_closed_all_the_same(stage: Set) -> None:
    it = stage(broken=True)
    failure, _ = it.hear(m.Ready, m.WorkerFailed)
    assert isinstance(failure, m.WorkerFailed)
    assert failure.token == it.worker.token
    assert failure.kind == "ConfigError"
    assert "nowhere" in failure.message
    assert it.exit_status() == EXIT_UNUSABLE
    assert it.marks == ["opened", "closed"]


def test_what_is_told_of_a_driver_that_cannot_be_opened_fits_a_message(tmp_path: Path) -> None:
    """Whatever a user's modules raise; else the daemon could not even say what is wrong."""
    wordy = Subject("process", broken={"setup": "helpers.driver_suite:set_up_in_vain"})
    with Stage(tmp_path, wordy, broken=True) as it:
        failure, _ = it.hear(m.WorkerFailed)
        assert isinstance(failure, m.WorkerFailed)
        assert (failure.kind, failure.message[:20]) == ("OSError", "no such folder: xxxx")
        assert it.exit_status() == EXIT_UNUSABLE


def test_a_worker_that_is_interrupted_in_an_evaluation_ends(stage: Set) -> None:
    """A lease that nobody is at any more would stay open for ever while the worker says that it is alive."""
    it = stage()
    it.hear(m.Ready)
    it.dispatch([INTERRUPT])
    assert it.exit_status() not in (EXIT_GOODBYE, EXIT_UNUSABLE)
    assert it.worker.worked
    assert it.marks == ["opened", "evaluated", "closed"]


def test_a_worker_that_has_evaluated_enough_says_that_it_leaves_before_it_could_be_given_more(tmp_path: Path) -> None:
    """Every outcome may be answered by a further lease, and how many that were would be a matter of chance."""
    with Stage(tmp_path, Subject("process", {"recycle_after": 3})) as it:
        it.hear(m.Ready)
        it.evaluate([1.0, 2.0])
        it.dispatch([3.0, 4.0])
        first, _ = it.hear(m.Leave, m.Outcome)
        assert isinstance(first, m.Leave)
        outcome, _ = it.hear(m.Outcome)
        assert outcome.final
        it.say(m.Settled((outcome.lease,)))
        it.say(m.Goodbye("as it asked"))
        assert it.exit_status() == EXIT_GOODBYE
