"""Heads that are made safe by fresh processes: those of one controller together, and none waits for one that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.waiting import eventually

from taskmaster.bus import codec, messages as m
from taskmaster.bus.text import LONGEST_TEXT
from taskmaster.drivers.instruments import securing
from taskmaster.drivers.instruments.securing import Securing

RIG = '''
import fcntl, os, pathlib, time
from taskmaster.drivers.instruments import Head

FOLDER = pathlib.Path(__file__).parent

class Rig(Head):
    """A part of a controller that one process at a time can have."""

    def safe(self):
        print("a library has this to say")
        self.file = open(FOLDER / self.options["lock"], "w")
        fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        once = FOLDER / f"{self.name} has begun"
        begun_before = once.exists()
        once.touch()
        if self.name == "hangs" and not begun_before:
            time.sleep(600)
        if self.name == "refuses" and not (FOLDER / "give in").exists():
            raise RuntimeError("not I")
        if self.name == "rambles":
            raise RuntimeError("not I" * 100_000)
        with open(FOLDER / "record", "a") as record:
            record.write(f"{os.getpid()} {self.name}\\n")
'''


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "rig.py").write_text(RIG)
        self.told: list[m.Guarded] = []
        self.securing = Securing(self.told.append)

    def secure(self, *heads: str, shared: bool = True) -> None:
        options = {
            "class": "rig:Rig",
            "path": [str(self.folder)],
            "shared": shared,
            "heads": [{"name": name, "lock": "controller" if shared else name} for name in heads],
        }
        self._plan = m.GuardianPlan("stm", "1", "instrument", options, {}, heads=heads)
        for head in heads:
            self.securing.add(head, "its worker has died")

    def until(self, done: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self.securing.look(time.monotonic(), self._plan)
            return done()

        eventually(look, what)

    @property
    def record(self) -> list[tuple[str, str]]:
        """Processes and the heads that they have made safe."""
        path = self.folder / "record"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(pid, name) for pid, _, name in (line.partition(" ") for line in lines)]

    @property
    def safe(self) -> set[str]:
        return {guarded.head for guarded in self.told if not guarded.error}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.securing.abandon()


def test_heads_of_one_controller_are_made_safe_by_one_process(bench: Bench) -> None:
    bench.secure("a", "b", "c")
    bench.until(lambda: not bench.securing, "all to be safe")
    assert [(one.head, one.error, one.reason) for one in bench.told] == [
        (head, "", "its worker has died") for head in ("a", "b", "c")
    ], "none has locked another out"
    assert len({pid for pid, _ in bench.record}) == 1


def test_one_that_refuses_holds_up_none_and_is_tried_again(bench: Bench) -> None:
    bench.secure("refuses", "b")
    bench.until(lambda: bench.safe == {"b"} and len(bench.told) == 2, "the other to be safe, and that this one is not")
    (unsafe,) = [one for one in bench.told if one.error]
    assert (unsafe.head, unsafe.error) == ("refuses", "RuntimeError: not I")
    assert "b" in bench.securing, "its controller is still had by the process"
    (bench.folder / "give in").touch()
    bench.until(lambda: not bench.securing, "all to be safe")
    assert bench.safe == {"refuses", "b"}


def test_where_one_hangs_the_others_are_made_safe_before_it_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(securing, "PATIENCE_SECONDS", 4.0)
    monkeypatch.setattr(securing, "AGAIN_SECONDS", 0.1)
    bench.secure("hangs", "b", "c")
    bench.until(lambda: not bench.securing, "all to be safe")
    assert [name for _, name in bench.record] == ["b", "c", "hangs"]
    (unsafe,) = [one for one in bench.told if one.error]
    assert (unsafe.head, unsafe.error) == ("hangs", "no success within 4 s, its process was ended")


def test_heads_of_their_own_have_a_process_each(bench: Bench) -> None:
    bench.secure("hangs", "b", "c", shared=False)
    bench.until(lambda: bench.safe == {"b", "c"}, "the others to be safe")
    assert len({pid for pid, _ in bench.record}) == 2
    assert list(bench.securing.abandon()) == ["hangs"]


def test_what_is_told_of_one_fits_a_message_whatever_it_raises(bench: Bench) -> None:
    bench.secure("rambles")
    bench.securing.add("gone", "its worker has died" * 100_000)
    bench.until(lambda: len(bench.told) == 2, "both to be told of")
    for told in bench.told:
        assert codec.worker_decoder().decode(codec.encode(told)) == told
    assert sum(len(told.reason) for told in bench.told) > LONGEST_TEXT
