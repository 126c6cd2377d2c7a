"""A journal that is not what was written: found out at the start and said, and never served as if it were whole.

The journal is that of a real daemon, killed at work. A copy is damaged in one place and a start made on it: either the
start, or the replay that comes upon it, says `JournalDamaged`, or everything that was ever acknowledged is there,
unchanged. There is no third way.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.places import short_folder
from helpers.specimen import (
    FRAME_BYTES,
    HEADER_BYTES,
    MASTERS,
    SOCKETS,
    Specimen,
    flip,
    is_detected,
    make_specimen,
    payload_files,
)
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import JournalDamaged
from taskmaster.cli.exits import exit_code
from taskmaster.daemon.journal.check import report, salvage

#: Places that are damaged in a row of trials of one kind; TASKMASTER_THOROUGH=1 tries twenty times as many.
TRIALS = 40 * (20 if os.environ.get("TASKMASTER_THOROUGH") else 1)


@pytest.fixture(scope="module")
def specimen() -> Iterator[Specimen]:
    """The journal that all tests damage copies of."""
    with short_folder() as folder:
        yield make_specimen(folder)


@pytest.fixture
def state(specimen: Specimen, place: Path) -> Path:
    """A copy of its state directory."""
    return specimen.copy(place / "state")


# -- what is whole ----------------------------------------------------------------------------------------------------


def test_what_a_killed_daemon_leaves_is_whole_and_all_there(specimen: Specimen, state: Path) -> None:
    assert not is_detected(state, specimen)
    for name, acknowledged in specimen.acknowledged.items():
        assert specimen.contents[name]["numbers"][1] == acknowledged
    whole = report(specimen.copy(state))
    assert whole.ok
    assert whole.lines()[-1] == "It is whole."
    assert len(payload_files(state)) >= 4, "large payloads are among what is damaged below"


def test_a_log_that_ends_in_the_middle_of_a_transaction_is_what_a_kill_leaves(specimen: Specimen, state: Path) -> None:
    """Behind the last commit anything may lie: torn frames are no damage."""
    log = state / "journal.db-wal"
    used = HEADER_BYTES + (specimen.log_bytes - HEADER_BYTES + FRAME_BYTES - 1) // FRAME_BYTES * FRAME_BYTES
    with log.open("r+b") as file:
        file.seek(used)
        file.write(os.urandom(3 * FRAME_BYTES + 100))
    assert not is_detected(state, specimen)


# -- one bit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "mark", "a payload file"])
def test_a_flipped_bit_is_found_out_or_harmless(specimen: Specimen, place: Path, name: str) -> None:
    chosen = random.Random(f"flip {name}")
    detected = 0
    for trial in range(TRIALS):
        state = specimen.copy(place / "state")
        path = state / name if name != "a payload file" else chosen.choice(payload_files(state))
        size = specimen.log_bytes if name == "journal.db-wal" else path.stat().st_size
        bit = chosen.randrange(8 * size)
        flip(path, bit)
        try:
            detected += is_detected(state, specimen)
        except BaseException as error:
            error.add_note(f"trial {trial}: bit {bit} of {path}")
            raise
    if name == "mark":
        assert not detected, "a mark that cannot be trusted is remarked, not taken for proof"
    elif name == "a payload file":
        assert detected == TRIALS
    else:
        assert detected > TRIALS / 4, "most of a database in use is in use"


# -- cut short, emptied, taken away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "a payload file"])
def test_a_file_that_was_cut_short_is_found_out(specimen: Specimen, place: Path, name: str) -> None:
    chosen = random.Random(f"cut {name}")
    for _ in range(TRIALS // 4):
        state = specimen.copy(place / "state")
        path = state / name if name != "a payload file" else chosen.choice(payload_files(state))
        # The log's last frame may belong to a page of the end's bookkeeping; before that, something is always lost.
        size = specimen.log_bytes - 2 * FRAME_BYTES if name == "journal.db-wal" else path.stat().st_size
        os.truncate(path, chosen.randrange(size))
        if name == "journal.db":  # pages that lie in the log, too, are not missed
            is_detected(state, specimen)
        else:
            assert is_detected(state, specimen), path.name


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "a payload file"])
def test_a_file_that_was_taken_away_is_found_out(specimen: Specimen, state: Path, name: str) -> None:
    (state / name if name != "a payload file" else payload_files(state)[0]).unlink()
    assert is_detected(state, specimen)


def test_zeros_where_a_sector_was_are_found_out_or_harmless(specimen: Specimen, place: Path) -> None:
    chosen = random.Random("sectors")
    detected = 0
    for _ in range(TRIALS):
        state = specimen.copy(place / "state")
        path = state / chosen.choice(["journal.db", "journal.db-wal"])
        size = specimen.log_bytes if path.suffix == ".db-wal" else path.stat().st_size
        with path.open("r+b") as file:
            file.seek(chosen.randrange(max(1, size // 512)) * 512)
            file.write(bytes(512))
        detected += is_detected(state, specimen)
    assert detected


def test_an_older_log_is_not_taken_for_the_present_one(specimen: Specimen, state: Path, place: Path) -> None:
    """A log that was put back from a copy would bring the journal back to where it was then, without a word."""
    older = specimen.copy(place / "older")
    with (older / "journal.db-wal").open("r+b") as file:  # as it was some frames ago
        frames = (specimen.log_bytes - HEADER_BYTES) // FRAME_BYTES
        file.truncate(HEADER_BYTES + frames // 2 * FRAME_BYTES)
    shutil.copy(older / "journal.db-wal", state / "journal.db-wal")
    assert is_detected(state, specimen)


# -- as a user meets it ------------------------------------------------------------------------------------------------


def taskmaster(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskmaster", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def damage_the_log(state: Path, specimen: Specimen) -> None:
    """In the middle of what was acknowledged last."""
    frames = (specimen.log_bytes - HEADER_BYTES) // FRAME_BYTES
    flip(state / "journal.db-wal", 8 * (HEADER_BYTES + frames // 2 * FRAME_BYTES + 2000))


def test_the_daemon_does_not_start_on_it_and_says_in_a_line_what_to_do(specimen: Specimen, place: Path) -> None:
    daemon = Daemon(place / "d", MASTERS, durability="power")
    specimen.copy(daemon.state)
    damage_the_log(daemon.state, specimen)
    before = {path: path.read_bytes() for path in (daemon.state / "journal.db", daemon.state / "journal.db-wal")}
    try:
        ended = taskmaster("serve", daemon.folder / "daemon.toml")
        assert ended.returncode == exit_code(JournalDamaged("")) == 7
        said = [line for line in ended.stderr.splitlines() if "damaged" in line]
        assert len(said) == 1, ended.stderr
        assert f"the journal in {daemon.state} is damaged: frame" in said[0]
        assert f"'taskmaster check --journal {daemon.state}' shows what can be kept" in said[0]
        assert "Traceback" not in ended.stderr
        assert {path: path.read_bytes() for path in before} == before, "nothing was written over"
    finally:
        daemon.close()


def test_what_can_be_kept_is_shown_and_brought_over(specimen: Specimen, state: Path, place: Path) -> None:
    damage_the_log(state, specimen)
    payload_files(state)[0].unlink()
    shown = taskmaster("check", "--journal", state)
    assert shown.returncode == 7
    assert "It is DAMAGED." in shown.stdout
    assert f"--journal {state} --salvage NEW" in shown.stdout
    assert "echo/at work" in shown.stdout

    into = place / "d" / "state"
    into.parent.mkdir()
    kept = salvage(state, into)
    assert kept.ok
    daemon = Daemon(place / "d", MASTERS, durability="power")
    try:
        with daemon.start().connect() as lab:
            assert lab.status().masters[0].state == "paused", "what lost its outcome would be evaluated again"
            for info in lab.runs("echo"):
                report_of = next(run for run in kept.runs if run.name == info.name)
                run = lab["echo"].watch(info.name)
                for _ in range(min(report_of.events, 100)):
                    result = run.results.get(PATIENCE)
                    told = specimen.delivered[info.name].get(result.index)
                    assert told is None or str(told) == str(result.output), "what was delivered stays what it was"
    finally:
        daemon.close()


def test_a_client_that_was_acknowledged_more_than_there_is_raises_an_alarm(specimen: Specimen, place: Path) -> None:
    """An older copy of the whole folder was put in its place: nothing in it is wrong, but a client knows better."""
    daemon = Daemon(place / "d", MASTERS, durability="power")
    try:
        with daemon.start().connect() as lab, lab["echo"].open("run") as run:
            run.tasks.put_many(list(range(10)))
            assert len(list(run.results)) == 10
            daemon.stop()
            older = shutil.copytree(daemon.state, place / "older", ignore=SOCKETS)
            daemon.start()
            run.tasks.put_many(list(range(10)))
            assert len(list(run.results)) == 10
            daemon.stop()
            shutil.rmtree(daemon.state)
            shutil.copytree(older, daemon.state)
            daemon.start()
            with pytest.raises(JournalDamaged, match=r"20 tasks were acknowledged .* knows of 10"):
                run.results.get(PATIENCE)
            eventually(lambda: "says that it was acknowledged 20 tasks" in daemon.log, "the alarm")
    finally:
        daemon.close()
