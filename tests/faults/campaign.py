"""Kill a daemon at random moments while a client keeps putting and taking, and see that nothing is lost or repeated."""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.daemon import Daemon
from helpers.load import Load, master

__all__ = ["kill_at_random", "main"]

#: Kills after which the command line checks everything and begins a new run: what it keeps in memory stays bounded.
_KILLS_A_ROUND = 50


def kill_at_random(
    folder: Path, kills: int, seed: int, durability: str = "power", tell: Callable[[int], None] = lambda kill: None
) -> int:
    """Kill the daemon of a state directory ``kills`` times under load, then check all there is to check.

    Returns how many tasks were evaluated. Raises AssertionError for whatever was lost, repeated, reordered or made up;
    ``seed`` makes the load and the choice of moments repeatable, as far as moments are.
    """
    chance = random.Random(seed)
    daemon = Daemon(folder, {"square": master()}, durability=durability)
    try:
        daemon.start()
        with daemon.connect() as lab:
            load = Load(lab["square"].open(f"kills-{seed}"), seed, window=chance.choice((5, 100, 2000))).start()
            for kill in range(kills):
                _kill_once(daemon, load, chance)
                tell(kill + 1)
            load.await_results(1)
            load.finish()
            load.check(lab, daemon.state)
            return len(load.results)
    finally:
        daemon.close()


def _kill_once(daemon: Daemon, load: Load, chance: random.Random) -> None:
    """Kill it in one of the moments of its life, and start it again."""
    moment = chance.random()
    if moment < 0.7:  # at work
        load.await_results(chance.randint(1, 1500))
        _pass(chance.uniform(0, 0.02))
    elif moment < 0.85:  # on its way down
        load.await_results(1)
        daemon.signal(signal.SIGTERM)
        _pass(chance.uniform(0, 0.05))
    daemon.kill()
    if moment >= 0.85:  # on its way up
        daemon.launch()
        _pass(chance.uniform(0, 0.6))
        daemon.kill()
    daemon.start()


def _pass(seconds: float) -> None:
    """Let some time pass: the one thing that a random moment can be waited for by."""
    threading.Event().wait(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how often (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; the next ones follow (default: 0)")
    parser.add_argument("--durability", choices=("power", "crash"), default="power")
    options = parser.parse_args(arguments)
    left, seed = options.kills, options.seed
    while left > 0:
        kills = min(left, _KILLS_A_ROUND)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            tasks = kill_at_random(Path(folder), kills, seed, options.durability)
        print(f"seed {seed}: {kills} kills, {tasks} tasks, {time.monotonic() - began:.0f} s", flush=True)
        left -= kills
        seed += 1
    return 0
