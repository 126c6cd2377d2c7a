"""A demo's own daemon: a process beside it that is started again when it is killed, and gone when the demo is."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from taskmaster.bus.errors import DaemonError, TaskMasterError
from taskmaster.bus.places import control_address
from taskmaster.daemon.guardians import end_guardians

if TYPE_CHECKING:
    from taskmaster.daemon.core import Identity

__all__ = ["DemoDaemon"]

#: What a daemon that was asked to stop may take before it is killed: its grace for evaluations under way, and a little.
STOP_SECONDS = 15.0
#: What evaluations under way may take then.
GRACE_SECONDS = 3.0
#: What the guardians of its instruments may take to bring them to their safe state, and what they may where the
#: demonstration was killed, and the simulated instruments with it.
SAFE_SECONDS, LOST_SECONDS = 10.0, 1.0
#: So many restarts, and something else than a curious person is killing it.
MAX_RESTARTS = 20

_READY = b"ready\n"
_TEMPORARY = "--temporary"
#: The folder of the state in which guardians have theirs.
_GUARDIANS = "guardians"


class DemoDaemon:
    """A daemon with the Masters of ``config``, its state in ``state``, its log in the file ``log``.

    Its instruments are the demonstration's: their guardians, which outlive a daemon that is killed, end with this.

    A ``temporary`` state is removed by whoever opened this, and by the daemon itself where that has been killed.
    ``resources`` are those of heads that are elsewhere than the configuration says: ``{master: {head: resource}}``.

    ``on_restart`` is called from another thread each time it was killed and is ready again, ``on_failure`` when it has
    ended by itself, or was killed too often: :attr:`error` then says why.
    """

    def __init__(
        self,
        config: Path,
        state: Path,
        log: Path,
        *,
        temporary: bool = False,
        resources: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.on_restart: Callable[[], None] = lambda: None
        self.on_failure: Callable[[], None] = lambda: None
        self.address = control_address(state)
        self.restarts = 0
        self.error: DaemonError | None = None
        moved = json.dumps({} if resources is None else resources)
        self._command = [sys.executable, "-m", __name__, str(config), str(state), str(os.getpid()), moved]
        if temporary:
            self._command.append(_TEMPORARY)
        self._log = log
        self._guardians = state / _GUARDIANS
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._lock = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name="demo-daemon")

    @property
    def pid(self) -> int:
        """The process id of the daemon that runs now, or ran last."""
        return self._process.pid if self._process is not None else 0

    @property
    def restarted_text(self) -> str:
        """What is said when it was killed."""
        return f"The daemon was killed; started again on the same journal as process {self.pid}."

    def __enter__(self) -> DemoDaemon:
        self._keeper.start()
        try:
            self._settled.wait()
        except BaseException:
            self.close()
            raise
        if self.error is not None:
            self.close()
            raise self.error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the daemon in order; kill it if it does not go, or if this is interrupted."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        try:
            self._keeper.join(STOP_SECONDS)
        finally:
            if self._process is not None:
                self._process.kill()
            self._keeper.join()
            end_guardians(self._guardians, SAFE_SECONDS)

    # -- its thread ---------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Run the daemon, again and again, until it is told to stop or ends by itself."""
        while (process := self._start()) is not None:
            assert process.stdout is not None
            with process.stdout as out:
                ready = out.readline() == _READY
            if ready and self._settled.is_set():
                self.restarts += 1
                self.on_restart()
            if ready:
                self._settled.set()
            status = process.wait()
            if self._stopping.is_set():
                break
            if not (ready and status < 0 and self.restarts < MAX_RESTARTS):
                self._fail(status)
                break
        self._settled.set()

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    process_group=0,  # a Ctrl-C at the terminal is the demo's business, which ends it in order
                )
            return self._process

    def _fail(self, status: int) -> None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        last = f" Its last words: {lines[-1]}." if lines else ""
        self.error = DaemonError(f"the demo's daemon {how}.{last} Its log is {self._log}")
        if self._settled.is_set():
            self.on_failure()


def main(
    config: Path, state: Path, parent: int, resources: Mapping[str, Mapping[str, str]], *, temporary: bool
) -> None:
    """The daemon's process."""
    from taskmaster.config.load import load
    from taskmaster.config.relocated import relocated
    from taskmaster.daemon.embedded import SMALL_KEEP_FREE, end_with
    from taskmaster.daemon.plan import plan
    from taskmaster.daemon.service import serve

    def on_ready(identity: Identity, address: str) -> None:
        # Not before: until now a SIGTERM would end the process at once, and leave its state.
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()
        _say_ready()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        own = dataclasses.replace(
            plan(relocated(load(config), resources)),
            state=state,
            control=control_address(state),
            results=f"ipc://{state}/results",
            workers=f"ipc://{state}/workers",
            keep_free=SMALL_KEEP_FREE,
            grace=GRACE_SECONDS,
        )
        serve(own, on_ready)
    except TaskMasterError as error:
        sys.exit(f"taskmaster: {error}")
    finally:
        if os.getppid() != parent:
            end_guardians(state / _GUARDIANS, LOST_SECONDS)
            if temporary:
                shutil.rmtree(state, ignore_errors=True)


def _say_ready() -> None:
    os.write(sys.stdout.fileno(), _READY)
    # Nobody reads on: what workers print goes to the log, too.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]),
        json.loads(sys.argv[4]),
        temporary=_TEMPORARY in sys.argv[5:],
    )
