"""Whatever is committed is there after whatever end, and nothing else is: the journal against a ledger in memory."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from helpers.ledger import Ledger, block, created, done, event, open_journal, read_ledger
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from taskmaster.bus.errors import JournalError
from taskmaster.daemon import effects as e
from taskmaster.daemon.journal import Journal, sql
from taskmaster.daemon.journal.check import check_log
from taskmaster.daemon.journal.journal import INLINE_BYTES
from taskmaster.daemon.journal.mark import read_mark
from taskmaster.daemon.journal.wal import read_log

#: Rows of each form that values take on disk; the large ones lie in payload files, and some of those share one.
ROWS: dict[str, tuple[Any, ...]] = {
    "floats": (0.5, -1.5, 2.5),
    "whole numbers": (1, 2, 3),
    "dicts": ({"x": 1, "text": "a"}, {"x": None, "text": "b"}),
    "one large": (b"x" * (INLINE_BYTES + 1),),
    "large and small": (b"y" * INLINE_BYTES, b"z", None),
}
forms = st.sampled_from(sorted(ROWS))


class JournalMachine(RuleBasedStateMachine):
    """A turn gathers records, which are then committed together; at any time the daemon may end and start again."""

    def __init__(self, place: Path, durability: str) -> None:
        super().__init__()
        self.durability = durability
        self.place = place
        shutil.rmtree(place, ignore_errors=True)
        self.starts = 0
        self.state = place / "0"
        self.state.mkdir(parents=True)
        self.epoch = 0
        self.turn: list[e.Record] = []
        #: what is committed, and what will be there once this turn is, too
        self.ledger = Ledger()
        self.hoped = Ledger()
        self._open()

    # -- what a turn may hold ------------------------------------------------------------------------------------------

    def _decide(self, *records: e.Record) -> None:
        for record in records:
            self.turn.append(record)
            self.hoped.apply(record)

    def _choose(self, data: st.DataObject, of: Any) -> Any:
        return data.draw(st.sampled_from(sorted(of)))

    @rule()
    def create(self) -> None:
        self._decide(created(self.hoped.last_run + 1))

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data(), form=forms)
    def put(self, data: st.DataObject, form: str) -> None:
        run = self._choose(data, self.hoped.runs)
        self._decide(block(run, len(self.hoped.runs[run].inputs), ROWS[form]))

    @precondition(lambda self: any(run.open for run in self.hoped.runs.values()))
    @rule(data=st.data(), form=forms, failed=st.integers(0, 2), timed=st.booleans())
    def finish(self, data: st.DataObject, form: str, failed: int, timed: bool) -> None:
        run, first, n = self._some_open(data)
        failed = min(failed, n)
        outputs = ROWS[form][: n - failed]
        n = failed + len(outputs)
        times = bytes(range(8)) * n if timed else b""
        self._decide(done(run, self.hoped.runs[run].next_seq, first, outputs, range(failed), times))

    @precondition(lambda self: any(run.open for run in self.hoped.runs.values()))
    @rule(data=st.data(), kind=st.sampled_from(["cancelled", "held", "held", "released"]))
    def cancel_hold_or_release(self, data: st.DataObject, kind: str) -> None:
        run, first, n = self._some_open(data)
        self._decide(event(run, self.hoped.runs[run].next_seq, kind, first, n))

    def _some_open(self, data: st.DataObject) -> tuple[int, int, int]:
        """A run, and the first and the number of tasks without outcome in a row."""
        run = self._choose(data, [number for number, run in self.hoped.runs.items() if run.open])
        open = self.hoped.runs[run].open
        first = last = self._choose(data, open)
        while last + 1 in open and last - first < 2:
            last += 1
        return run, first, last + 1 - first

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data(), number=st.integers(1, 4), local=st.booleans())
    def grant(self, data: st.DataObject, number: int, local: bool) -> None:
        run = self._choose(data, self.hoped.runs)
        self._decide(e.LeaseGranted((self.epoch, number), run, 0, 2, 1, f"svm-{number}", local, 1e9))

    @rule(number=st.integers(1, 4))
    def end_lease(self, number: int) -> None:
        self._decide(e.LeaseEnded((self.epoch, number)))

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data(), attempts=st.integers(1, 3))
    def charge(self, data: st.DataObject, attempts: int) -> None:
        run = self._choose(data, self.hoped.runs)
        self._decide(e.AttemptsCharged(run, 0, 2, attempts))

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data(), closed=st.booleans(), paused=st.booleans(), priority=st.integers(-(2**31), 2**31 - 1))
    def change_run(self, data: st.DataObject, closed: bool, paused: bool, priority: int) -> None:
        run = self._choose(data, self.hoped.runs)
        self._decide(
            e.RunChanged(run, closed, paused, priority),
            event(run, self.hoped.runs[run].next_seq, "closed" if closed else "reopened", 0, 1),
        )

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data())
    def open_for_writing(self, data: st.DataObject) -> None:
        run = self._choose(data, self.hoped.runs)
        writer = self.hoped.runs[run].writer + 1
        self._decide(e.WriterChanged(run, writer, "bob", 1e9, f"wish {writer}"))

    @rule(master=st.sampled_from(["svm", "oven"]), paused=st.booleans())
    def change_master(self, master: str, paused: bool) -> None:
        self._decide(e.MasterChanged(master, paused))

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data())
    def count(self, data: st.DataObject) -> None:
        self._decide(self.hoped.counted(self._choose(data, self.hoped.runs)))

    @precondition(lambda self: self.hoped.runs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self._decide(e.RunDeleted(self._choose(data, self.hoped.runs)))

    # -- how it ends ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.turn)
    @rule()
    def commit(self) -> None:
        self.journal.commit(self.turn)
        for record in self.turn:
            self.ledger.apply(record)
        self.turn = []
        self._check_mark()

    @rule(how=st.sampled_from(["stopped", "failed", "killed", "committed in vain"]))
    def end(self, how: str) -> None:
        """What was decided and not committed ends with the process; the next one finds the rest."""
        if how == "killed":
            self._kill()
        elif how == "committed in vain":
            self._commit_in_vain()
        else:
            self.journal.close(in_order=how == "stopped")
        self.turn = []
        self.hoped = deepcopy(self.ledger)
        self._open()

    def _commit_in_vain(self) -> None:
        """Something at the end cannot be written: then nothing before it is, either."""
        twins = [created(number, "two of one name") for number in (10**6, 10**6 + 1)]
        with pytest.raises(JournalError, match="could not be written"):
            self.journal.commit([*self.turn, *twins])
        self.journal.close(in_order=False)

    @rule()
    def tidy(self) -> None:
        """What the daemon does when it has nothing else to do."""
        self.journal.checkpoint(idle=True)

    def _kill(self) -> None:
        """A kill leaves the folder as it is at this moment: a copy of it is what the next daemon finds."""
        self.starts += 1
        left = self.place / str(self.starts)
        shutil.copytree(self.state, left)
        self.journal.close(in_order=False)
        shutil.rmtree(self.state)
        self.state = left

    def teardown(self) -> None:
        self.end("stopped")
        self.journal.close()

    # -- what then holds -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        assert check_log(self.state, self.durability).remarks == (), "no false alarm, whatever way it ended"
        self.journal: Journal = open_journal(self.state, self.durability)
        assert read_ledger(self.journal) == self.ledger
        epoch = self.journal.begin_epoch(0.0)
        assert epoch > self.epoch
        self.epoch = epoch
        assert self._files() == {name for (name,) in self.journal.query(sql.FILES)}, "no file is missing or left over"
        self._check_mark()

    def _files(self) -> set[str]:
        return {path.name for path in (self.state / "payloads").glob("??/*")}

    def _check_mark(self) -> None:
        mark, log = read_mark(self.state), read_log(self.state / "journal.db-wal")
        assert mark is not None
        assert mark.generation == log.generation
        assert mark.frames <= log.frames, "the mark never leads"


@pytest.mark.usefixtures("short_log")
def test_whatever_is_committed_is_there_after_whatever_end(tmp_path: Path, durability: str) -> None:
    class Machine(JournalMachine):
        def __init__(self) -> None:
            super().__init__(tmp_path / "states", durability)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
