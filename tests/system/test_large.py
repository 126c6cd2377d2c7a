"""Outputs and errors too large for one message: they come in several, or fail alone, and nothing stands still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Lab

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    threads = function("zeros", threads=2)
    del threads["workers"]
    masters = {
        "one-by-one": function("zeros"),
        "batch": function("many_zeros", batch=True),
        "threads": {**threads, "driver": "thread"},
    }
    return start_shared_daemon(masters, max_message=f"{LIMIT} B")


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.mark.parametrize("master", ["one-by-one", "batch", "threads"])
def test_an_output_that_no_message_can_carry_fails_its_task_alone(lab: Lab, master: str) -> None:
    points = [10, LIMIT // 4, LIMIT + 1, LIMIT // 3, LIMIT // 3, 20, 3 * LIMIT, LIMIT // 3, 30]
    with lab[master].open() as run:
        run.tasks.put_many(points)
        results = {result.index: result for result in run.results}
    for index, n in enumerate(points):
        if n < LIMIT:
            assert results[index].output == bytes(n)
            continue
        error = results[index].error
        assert isinstance(error, TaskFailed)
        assert error.kind == "OutputTooLarge"
        assert str(LIMIT) in str(error), "what is allowed"
        assert "max_message of [daemon]" in str(error), "and what to do about it"
    assert lab.status().dropped == 0


@pytest.mark.parametrize("master", ["one-by-one", "batch", "threads"])
def test_any_number_of_long_errors_arrives(lab: Lab, master: str) -> None:
    with lab[master].open() as run:
        run.tasks.put_many([-5000] * 600 + [1])
        results = list(run.results)
    assert len(results) == 601
    failed = [result for result in results if result.outcome == "failed"]
    assert len(failed) == 600
    for result in failed:
        assert isinstance(result.error, TaskFailed)
        assert result.error.kind == "ValueError"
        assert "xxxx" in str(result.error)
    assert lab.status().dropped == 0
