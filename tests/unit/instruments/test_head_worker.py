"""What the worker of a head notes for others to find, should it be killed."""

from __future__ import annotations

from pathlib import Path

from helpers.devices import Patient
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import messages as m
from taskmaster.bus.table import pack_values
from taskmaster.drivers.instruments.worker import HeadWorker, Seat
from taskmaster.drivers.progress import Position, ProgressReader, ProgressWriter
from taskmaster.drivers.protocol import Assignment


def noted(seat: Seat) -> Position:
    positions = ProgressReader(seat.progress).positions()
    assert positions is not None
    return positions[0]


def test_that_it_is_in_a_task_is_noted_until_that_ends_whatever_it_gives_back_meanwhile(tmp_path: Path) -> None:
    seat = Seat("", "token", tmp_path / "progress")
    worker = HeadWorker(f"ipc://{tmp_path}/workers", "oven", seat)
    options = {"class": "helpers.devices:Patient"}
    progress = ProgressWriter(seat.progress, 1)
    attendant = worker._make_attendant(m.Welcome(1, 1, "oven", "instrument", options), progress)
    in_hand, behind = (Assignment((1, k), 1, k, 1, pack_values([1.0])) for k in (1, 2))
    attendant.thread.start()
    try:
        attendant.order(m.HeadOrder((1, 1), "work"))
        attendant.give(in_hand)
        eventually(lambda: attendant.task, "the task to begin")
        attendant.give(behind)
        behind.revoked.add(0, 1)
        attendant.flush()
        position = noted(seat)
        assert (position.lease, position.started, position.busy) == (in_hand.lease, 1, True)
    finally:
        Patient.may_end.set()
        attendant.leave()
        attendant.thread.join(PATIENCE)
        for socket in (worker._signalled, worker._wake):
            socket.close()
        worker._context.destroy(linger=0)
    position = noted(seat)
    assert (position.lease, position.busy) == (in_hand.lease, False)
