"""Journals of which something has changed: found out, or harmless; never served as if that were all there is."""

from __future__ import annotations

import os
import random
from pathlib import Path

from helpers.specimen import FRAME_BYTES, HEADER_BYTES, Specimen, flip, is_detected, make_specimen, payload_files

from faults.nursery import Nursery
from faults.tally import Tally

__all__ = ["places"]

#: What is done, and to which file: ten of thirteen are done to the database and its log.
_WAYS = (
    *(("flip", name) for name in ("journal.db", "journal.db-wal", "journal.db-wal", "mark", "payload")),
    *(("cut", name) for name in ("journal.db", "journal.db-wal", "journal.db-wal", "payload")),
    *(("zero", name) for name in ("journal.db", "journal.db-wal")),
    *(("noise", name) for name in ("journal.db", "journal.db-wal")),
)


def places(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """A bit flipped, the end cut off, a sector of zeros or noise: anywhere in database, log, mark and payload files."""
    chance = random.Random(seed)
    specimen = make_specimen(folder)
    tally.acknowledged = sum(specimen.acknowledged.values())
    detected = 0
    for k in range(times):
        state = specimen.copy(folder / "state")
        done = _damage(specimen, state, *_WAYS[k % len(_WAYS)], chance)
        try:
            detected += is_detected(state, specimen)
        except AssertionError as error:
            tally.lost += 1
            tally.complaints.append(f"{done}: {error}")
        tally.injected += 1
    if detected < times / 5:
        tally.complaints.append(f"only {detected} of {times} were found out: are they where anything lies?")


def _damage(specimen: Specimen, state: Path, how: str, name: str, chance: random.Random) -> str:
    """Do it; returns what was done."""
    path = chance.choice(payload_files(state)) if name == "payload" else state / name
    size = specimen.log_bytes if name == "journal.db-wal" else path.stat().st_size
    if how == "flip":
        at = chance.randrange(8 * size)
        flip(path, at)
    elif how == "cut":
        # The log's last frames may be of the end's bookkeeping: who cuts them off has taken nothing.
        at = chance.randrange(size if name != "journal.db-wal" else max(HEADER_BYTES, size - 2 * FRAME_BYTES))
        os.truncate(path, at)
    else:
        at = chance.randrange(max(1, size // 512)) * 512
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes(512) if how == "zero" else chance.randbytes(512))
    return f"{how} at {at} of {path.name}"
