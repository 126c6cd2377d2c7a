"""Runs that go are written to Parquet before, and read again: what is not known to be in the archive is not deleted.

A run is some files: ``FOLDER/MASTER/NUMBER-NAME.parquet`` with its results, ``…-record.jsonl.gz`` with what else is on
record of it (see `chronicle`), and ``…-progress.parquet`` if its evaluations have told of any. None is ever written
over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from taskmaster.bus.errors import CallerError, JournalError
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import lacking
from taskmaster.daemon.chronicle import write_chronicle
from taskmaster.daemon.journal.reading import RecordedRuns
from taskmaster.daemon.retention import ClosedRun, Retention, due
from taskmaster.learners.export import export_with, write_parquet
from taskmaster.learners.export.complete import complete_or_not_at_all
from taskmaster.learners.export.series import export_series, progress_of

__all__ = ["archive_run", "prune", "require_parquet"]

_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
#: How the names of a run's files end.
_ENDS = (".parquet", "-record.jsonl.gz", "-progress.parquet")
#: Characters of a run's name that become part of its file's.
_NAME = 80


def require_parquet() -> Any:
    """pyarrow's reader and writer. Raises CallerError, which says what to install."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CallerError(lacking("To archive runs as Parquet needs", "pyarrow", "parquet", error)) from None
    return parquet


def prune(
    runs: RecordedRuns, rules: Retention, now: float, delete: Callable[[ClosedRun], None]
) -> Iterator[tuple[ClosedRun, list[Path]]]:
    """Archive the runs that are not to be kept, and have each deleted; yields it with its files when that is done.

    ``delete`` raises NotAllowed, Conflict, UnknownRun where something has happened in the run meanwhile, which is then
    left alone. Raises OSError, CallerError where nothing can be archived, JournalError.
    """
    closed = runs.closed()
    used = runs.used() if rules.size is not None else 0
    for run in due(closed, rules, used, now, runs.size_of):
        files = archive_run(runs, run, Path(rules.archive)) if rules.archive is not None and run.tasks else []
        try:
            delete(run)
        except CallerError:  # it goes on, or has gone; of anything else it is not known whether the run was deleted
            for file in files:
                file.unlink()
            continue
        yield run, files


def archive_run(runs: RecordedRuns, run: ClosedRun, folder: Path) -> list[Path]:
    """Write a run's results, and its progress, and read them again; returns the files, which are on disk.

    Raises OSError, JournalError where they do not hold what they should, CallerError without pyarrow.
    """
    parquet = require_parquet()
    info = runs.info(run.run)
    place = folder / run.master
    owner = os.stat(runs.path.parent)
    for path in (*reversed(folder.parents), folder, place):
        _make(path, owner)
    name = f"{run.run:06d}-{_STRANGE.sub('_', run.name)[:_NAME]}"
    for k in count(1):
        stem = name if k == 1 else f"{name}-{k}"
        if not any((place / f"{stem}{end}").exists() for end in _ENDS):
            break
    files = []
    results, record, progress = (place / f"{stem}{end}" for end in _ENDS)
    try:
        rows = _write_results(runs, info, results)
        files.append(results)
        _verify(parquet, results, rows, run.tasks)
        with complete_or_not_at_all(record) as partial:
            write_chronicle(runs, run.run, partial)
        files.append(record)
        if _write_progress(runs, info, progress):
            files.append(progress)
        for path in files:
            _give(path, 0o600, owner)
        for path in (*files, place, folder):
            _sync(path)
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise
    return files


def _make(folder: Path, owner: os.stat_result) -> None:
    """Make a folder that is missing: its owner's alone, as the journal is."""
    if not folder.exists():
        folder.mkdir(mode=0o700)
        _give(folder, 0o700, owner)


def _give(path: Path, mode: int, owner: os.stat_result) -> None:
    """To whom the journal belongs, for root may have written it where the daemon is to go on."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def _write_results(runs: RecordedRuns, info: RunInfo, file: Path) -> int:
    with complete_or_not_at_all(file) as partial, open(partial, "wb") as out:
        return export_with(runs, info, lambda *table: write_parquet(out, *table))


def _write_progress(runs: RecordedRuns, info: RunInfo, file: Path) -> int:
    parameters, outputs = runs.fields(info.master)
    table = progress_of(lambda: iter(runs.progress(info.run)), (*parameters, *outputs))
    if len(table.names) == len(table.fixed):
        return 0  # nothing was told
    return export_series(table, file, "parquet")


def _verify(parquet: Any, file: Path, rows: int, tasks: int) -> None:
    """Read all of it: every task of the run has its row."""
    seen: set[int] = set()
    for batch in parquet.ParquetFile(file).iter_batches():
        seen.update(batch.column("index").to_pylist())
    if rows != tasks or seen != set(range(tasks)):
        raise JournalError(f"{file} has rows of {len(seen)} of the {tasks} tasks of its run: it is kept in the journal")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
