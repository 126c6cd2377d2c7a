"""A laboratory to do harm to: a daemon, its workers, and learners who note everything that they are told."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from helpers.daemon import Daemon, function
from helpers.waiting import PATIENCE, eventually

from faults.evidence import Verdict, judge, read
from faults.learner import BULK
from faults.nursery import Child, Nursery
from faults.tally import Tally
from taskmaster.bus.errors import CallerError, TaskMasterError
from taskmaster.bus.keys import DAEMON_KEY_ENVIRONMENT, KEY_ENVIRONMENT
from taskmaster.learners.client import Lab, connect

__all__ = ["OFTEN", "ONCE", "Follower", "Learner", "NurseryDaemon", "Site", "pass_time"]

#: A Master whose tasks may be evaluated again if their worker is lost, and one whose tasks may not.
OFTEN, ONCE = "often", "once"
#: Seconds between two blocks of a learner.
PACE = 0.01


def pass_time(seconds: float) -> None:
    """Let some time pass: the one thing that a random moment can be waited for by."""
    threading.Event().wait(seconds)


class NurseryDaemon(Daemon):
    """A daemon that is forked by a nursery."""

    def __init__(self, nursery: Nursery, folder: Path, masters: Mapping[str, Mapping[str, Any]], **daemon: Any) -> None:
        self._nursery = nursery
        super().__init__(folder, masters, **daemon)

    def launch(self, *, program: Any = "faults.programs:daemon", **environment: str) -> None:
        """Start ``module:function`` in the daemon's place, without waiting."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self._drain_notes()
        self.notes.clear()
        child = self._nursery.launch(
            str(program),
            str(self.folder / "daemon.toml"),
            log=self.folder / "log",
            environment={"NOTIFY_SOCKET": str(self.folder / "notify"), **environment},
        )
        self.process = cast("subprocess.Popen[bytes]", child)
        self._sessions.append(child.pid)

    def end(self) -> None:
        """Stop it in order, or kill it where it does not."""
        if self.is_running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(PATIENCE)


class Learner:
    """A learner's process, and those that come after it if it is killed."""

    def __init__(self, site: Site, master: str, number: int, address: str, *keys: str, pace: float = PACE) -> None:
        self.site, self.master, self.number = site, master, number
        self.run = f"run-{number}"
        self.notes = site.folder / f"{master}-{number}.notes"
        self.address, self._keys, self._pace = address, keys, pace
        #: its own pauses are not the daemon's
        self.is_excused = False
        self._incarnations = 0
        self.entry = "faults.learner:main"
        self.child: Child | None = None

    def start(self) -> Learner:
        """Begin, or go on after a kill."""
        self._incarnations += 1
        incarnation = self.number * 1000 + self._incarnations
        arguments = (self.address, self.master, self.run, str(self.notes), str(incarnation), str(self._pace))
        self.child = self.site.abroad.launch(self.entry, *arguments, *self._keys, log=self.site.folder / "learners.log")
        return self

    def count(self, what: str) -> int:
        """How much of a kind it has noted."""
        return sum(len(entry[2]) if what == "told" else 1 for entry in read(self.notes) if entry[0] == what)

    def results(self) -> list[Any]:
        """Everything that it was told, in the order in which it was."""
        return [result for entry in read(self.notes) if entry[0] == "told" for result in entry[2]]

    def await_told(self, n: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until it has been told something more, ``n`` times."""
        assert self.child is not None
        goal = self.told + n

        def there() -> bool:
            assert self.child is not None
            assert self.child.poll() is None, f"a learner has ended; see {self.site.said()}"
            return self.told >= goal

        try:
            eventually(there, f"{self.run} of {self.master} to be told more", timeout)
        except AssertionError as error:
            error.add_note(self.site.said())
            raise

    @property
    def told(self) -> int:
        """How often it has been told something."""
        try:
            text = self.notes.read_bytes()
        except FileNotFoundError:
            return 0
        return text.count(b'["told"')

    @property
    def acknowledged(self) -> int:
        """How many tasks of its run were acknowledged to it."""
        text = self.notes.read_bytes()
        at = text.rfind(b'["ack"')
        return int(json.loads(text[at:].partition(b"\n")[0])[2]) if at >= 0 else 0

    def kill(self) -> None:
        """SIGKILL."""
        assert self.child is not None
        self.child.kill()
        self.child.wait(PATIENCE)

    def finish(self, timeout: float = 2 * PATIENCE) -> None:
        """Have it wait for what is open, and end. Raises AssertionError where that does not come to an end."""
        assert self.child is not None
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            status = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.run} of {self.master} does not come to an end\n{self.site.said()}") from None
        assert status == 0, f"{self.run} of {self.master} ended with status {status}\n{self.site.said()}"


class Follower(Learner):
    """Somebody in a process of their own who follows a learner's run, and has nothing to do with what is put."""

    def __init__(self, followed: Learner, number: int) -> None:
        super().__init__(followed.site, followed.master, number, followed.address)
        self.run, self._followed = followed.run, followed
        self.entry = "faults.learner:follow"

    def complaints(self) -> list[str]:
        """Wait until it has been told all that its learner was, who has ended; what was told otherwise, in words."""
        expected = self._followed.results()
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.count("told") >= len(expected), f"a follower of {self.run} to be told everything")
        told = self.results()
        if told == expected:
            return []
        wrong = next((k for k, (a, b) in enumerate(zip(told, expected)) if a != b), min(len(told), len(expected)))
        return [f"a follower of {self.run} was told {len(told)} results, not {len(expected)}; wrong from {wrong} on"]


class Site:
    """One state directory, its daemon, hosts of workers that outlive it, learners, and an operator.

    ``dialled``: workers dial in and outlive the daemon; else they are its own. The operator declares failed what is in
    doubt, so every run comes to an end. ``bulk``: there is a third Master, for large blocks.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        *,
        dialled: bool = True,
        bulk: bool = False,
        masters: Mapping[str, Mapping[str, Any]] | None = None,
        operated: bool = True,
        **daemon: Any,
    ) -> None:
        self.folder, self.nursery = folder, nursery
        self.dialled = dialled
        self._stack = ExitStack()
        known = {"max_attempts": 1_000_000, "restarts": 1_000_000, "restart_window": "1 s"}
        workers = 0 if dialled else 2
        self._masters = {
            OFTEN: function("note_and_work", workers=workers, env=self._environment(OFTEN), **known),
            ONCE: function("note_and_work", workers=workers, env=self._environment(ONCE), on_lost="hold", **known),
            BULK: function("note_many", workers=workers, env=self._environment(BULK), batch=True, **known),
        }
        if not bulk:
            del self._masters[BULK]
        self._masters.update({name: dict(keys) for name, keys in (masters or {}).items()})
        settings = {"durability": "power", "heartbeat": "200 ms", "lost_after": "2 s", **daemon}
        self.daemon = NurseryDaemon(nursery, folder / "d", self._masters, **settings)
        self._stack.callback(self.daemon.close)
        #: what is started in the daemon's place
        self.program = "faults.programs:daemon"
        #: the nursery of another machine, where learners and workers are
        self.abroad = nursery
        #: what learners show who come by the network, where the daemon has keys
        self.credentials: tuple[str, ...] = ()
        self.worker_credentials: tuple[str, ...] = ()
        self.learners: list[Learner] = []
        self.followers: list[Follower] = []
        self.hosts: list[Child] = []
        self._operating = threading.Event()
        self._operator = threading.Thread(target=self._operate) if operated else None

    def _environment(self, master: str) -> dict[str, str]:
        return {"NOTES": str(self.folder / f"{master}.evaluated")}

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._operating.set()
        if self._operator is not None and self._operator.is_alive():
            self._operator.join()
        for learner in (*self.learners, *self.followers):
            if learner.child is not None and learner.child.poll() is None:
                learner.kill()
        for host in self.hosts:
            host.send_signal(signal.SIGCONT)
            host.kill()
            host.wait(PATIENCE)
        self._stack.close()

    # -- setting up ---------------------------------------------------------------------------------------------------

    @property
    def near(self) -> str:
        """The daemon's control address for this machine."""
        return f"ipc://{self.daemon.state}/control" if self.credentials else self.daemon.address

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of control, results and workers, where they are ports."""
        return tuple(f"tcp://127.0.0.1:{port}" for port in self.daemon.ports)

    def start(self, *masters: str) -> Site:
        """Start the daemon, its workers, and a learner for each of these Masters (by default both)."""
        self.daemon.launch(program=self.program)
        self.daemon.await_note("READY=1")
        for master in masters or (OFTEN, ONCE):
            if self.dialled:
                self.host(master)
            self.learn(master, pace=PACE if master != BULK else 250 * PACE)
        if self._operator is not None:
            self._operator.start()
        for learner in self.learners:
            learner.await_told()
        return self

    def host(self, master: str, address: str = "", workers: int = 1) -> Child:
        """A host of workers that dial in."""
        shown = dict(zip((KEY_ENVIRONMENT, DAEMON_KEY_ENVIRONMENT), self.worker_credentials))
        child = self.abroad.launch(
            "faults.programs:workers", address or self.daemon.address, master, str(workers),
            log=self.folder / "hosts.log", environment={**self._environment(master), **shown, "PYTHONPATH": _path()},
        )  # fmt: skip
        self.hosts.append(child)
        return child

    def learn(self, master: str, address: str = "", *keys: str, pace: float = PACE) -> Learner:
        """One more learner."""
        where, shown = address or self.daemon.address, keys or self.credentials
        learner = Learner(self, master, len(self.learners), where, *shown, pace=pace).start()
        self.learners.append(learner)
        return learner

    def follow(self, learner: Learner) -> Follower:
        """Somebody who only follows what comes of a learner's run."""
        follower = Follower(learner, len(self.learners) + len(self.followers))
        follower.start()
        self.followers.append(follower)
        return follower

    # -- meanwhile ----------------------------------------------------------------------------------------------------

    def await_progress(self, n: int = 1) -> None:
        """Wait until each learner has been told more."""
        for learner in self.learners:
            learner.await_told(n)

    def _operate(self) -> None:
        """Declare failed whatever is in doubt."""
        while not self._operating.is_set():
            with contextlib.suppress(TaskMasterError, OSError), connect(self.near, 1.0, 1.0) as lab:
                while not self._operating.wait(0.05):
                    self._resolve(lab)

    def _resolve(self, lab: Lab) -> None:
        for held in lab.held(ONCE):
            # It may be over by now: its outcome may have come late, or somebody have said so before.
            with contextlib.suppress(CallerError):
                lab.resolve(held.run, held.index, "fail", reason="nobody knows", attempt=held.attempt)

    def connect(self, patience: float = PATIENCE) -> Lab:
        """A client on this machine."""
        return connect(self.near, patience, patience)

    # -- in the end ---------------------------------------------------------------------------------------------------

    def finish(self, tally: Tally) -> None:
        """Let all learners end what is open, stop the daemon, and judge; the sum goes to the tally."""
        for learner in self.learners:
            learner.finish()
        for follower in self.followers:
            tally.complaints += follower.complaints()
        self._operating.set()
        self.daemon.end()
        for learner in self.learners:
            tally.add(self.verdict(learner))

    def verdict(
        self, learner: Learner, *, ended: bool = True, until: float = math.inf, state: Path | None = None
    ) -> Verdict:
        """What came of a learner's run, in which nothing is open any more if it has ``ended``; see :func:`judge`."""
        evaluated = self.folder / f"{learner.master}.evaluated"
        verdict = judge(
            state or self.daemon.state, learner.master, learner.run, learner.notes, evaluated,
            once=learner.master == ONCE, ended=ended, until=until,
        )  # fmt: skip
        if learner.is_excused:
            verdict.pause = 0.0
        return verdict

    def said(self) -> str:
        """The last words of all processes."""
        logs = (self.folder / "learners.log", self.folder / "hosts.log", self.folder / "d" / "log")
        return "\n".join(f"-- {path.name}:\n{_end_of(path)}" for path in logs if path.exists())


def _end_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-3000:]


def _path() -> str:
    """Where workers import the evaluations from."""
    work = Path(__file__).resolve().parents[1] / "helpers" / "work"
    return os.pathsep.join(filter(None, (str(work), os.environ.get("PYTHONPATH"))))
