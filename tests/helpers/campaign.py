"""Kill a daemon at random moments while a client keeps putting and taking, and see that nothing is lost or repeated."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from helpers.daemon import Daemon
from helpers.load import Load, master

__all__ = ["kill_at_random"]


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
