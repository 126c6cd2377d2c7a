"""The tables of the journal, and how each release's become the next one's. `docs/journal.md` says how to read them.

What was released is not changed any more: a journal may have been written by it.
"""

__all__ = ["MIGRATIONS", "SCHEMA_VERSION"]

SCHEMA_VERSION = 4

#: Run once on a new journal, in order, up to SCHEMA_VERSION; an older journal gets what it lacks.
MIGRATIONS: dict[int, str] = {
    1: """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- What a Master remembers of its switches.
CREATE TABLE masters (
    master TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- One row a run. The counts stand for the run as of its last event, so that most runs need no reading at a start.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT,   -- the number of a deleted run is not given again
    master TEXT NOT NULL,
    name TEXT NOT NULL,
    seed INTEGER NOT NULL,
    created REAL NOT NULL,           -- seconds since 1970
    user TEXT NOT NULL,
    metadata TEXT NOT NULL,          -- JSON object of strings
    priority INTEGER NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0,
    writer INTEGER NOT NULL DEFAULT 0,
    next_index INTEGER NOT NULL DEFAULT 0,
    next_seq INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (master, name)
) STRICT;

-- Who opened a run for writing, and when; claim is what the client called this wish.
CREATE TABLE writers (
    run INTEGER NOT NULL,
    writer INTEGER NOT NULL,
    user TEXT NOT NULL,
    time REAL NOT NULL,
    claim TEXT NOT NULL,
    PRIMARY KEY (run, writer)
) STRICT, WITHOUT ROWID;

-- What the bytes of a table mean: {"parts": [[names, dtype, shape of one item, form], …]}; dtype O is msgpack.
CREATE TABLE layouts (
    layout INTEGER PRIMARY KEY,
    json TEXT NOT NULL UNIQUE
) STRICT;

-- Inputs: tasks first … first + n - 1 of a run. asks: [[offset, last event the
-- learner had been told, points it was asked for], …], see `docs/protocol.md`.
CREATE TABLE blocks (
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    layout INTEGER NOT NULL,
    asks TEXT NOT NULL,
    digest BLOB NOT NULL,
    time REAL NOT NULL,
    user TEXT NOT NULL,
    data BLOB,
    file TEXT,
    PRIMARY KEY (run, first)
) STRICT, WITHOUT ROWID;

-- Events seq … seq + n - 1 of a run, about tasks first … first + n - 1. Of a row of kind done, the tasks in errors
-- ([[position, type, message, traceback], …]) failed and the others have a row each in the outputs table.
CREATE TABLE events (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    first INTEGER NOT NULL,
    layout INTEGER,
    errors TEXT,
    timed INTEGER NOT NULL,          -- data ends in n float64: when each task finished, seconds after started
    worker TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started REAL NOT NULL,
    finished REAL NOT NULL,
    data BLOB,
    file TEXT,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- Tasks that a worker was granted and whose outcomes are not all here.
CREATE TABLE leases (
    epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    local INTEGER NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (epoch, number)
) STRICT, WITHOUT ROWID;

-- Evaluations used up by tasks that lost a worker.
CREATE TABLE attempts (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (run, task)
) STRICT, WITHOUT ROWID;
""",
    2: """
ALTER TABLE masters ADD COLUMN stopped TEXT NOT NULL DEFAULT '';   -- by whom and why; empty: it is not
ALTER TABLE leases ADD COLUMN name TEXT NOT NULL DEFAULT '';       -- the worker's for people; of a head, that head's
-- Of a writer: how many tasks there were when he came; what he said of himself, a JSON object of strings (of a learner,
-- where it is not the one that is recorded with the run); and whether it was to the run that this one was forked from.
ALTER TABLE writers ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
ALTER TABLE writers ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE writers ADD COLUMN forked INTEGER NOT NULL DEFAULT 0;

-- Heads of instruments that are out of service, by whom and why; empty: they are in. tripped: the interlock, and why.
CREATE TABLE heads (
    master TEXT NOT NULL,
    head TEXT NOT NULL,
    out TEXT NOT NULL,
    quarantined TEXT NOT NULL,
    tripped TEXT NOT NULL,
    PRIMARY KEY (master, head)
) STRICT, WITHOUT ROWID;

-- What heads have done, ever, and what went wrong with each last.
CREATE TABLE head_counts (
    master TEXT NOT NULL,
    head TEXT NOT NULL,
    tasks INTEGER NOT NULL,
    busy REAL NOT NULL,              -- seconds that they took
    error TEXT NOT NULL,
    error_time REAL NOT NULL,        -- when it was first said
    PRIMARY KEY (master, head)
) STRICT, WITHOUT ROWID;

-- Tasks first … first + n - 1 ask for the head of this name, or for those with this capability.
CREATE TABLE places (
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    head TEXT NOT NULL,
    capability TEXT NOT NULL,
    PRIMARY KEY (run, first)
) STRICT, WITHOUT ROWID;

-- From where the evaluation of an open task can go on: the head's own note to itself.
CREATE TABLE checkpoints (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    head TEXT NOT NULL,
    epoch INTEGER NOT NULL,          -- of the lease that it came with, and that one's number
    lease INTEGER NOT NULL,
    number INTEGER NOT NULL,         -- counts those of a lease
    time REAL NOT NULL,
    token BLOB NOT NULL,
    lost REAL NOT NULL,              -- when it was interrupted; 0: it was not, as far as is known
    PRIMARY KEY (run, task)
) STRICT, WITHOUT ROWID;

-- What was done to instruments besides tasks: stopped, reset; of a head: in, out, quarantined, tripped (an interlock),
-- unsafe (it could not be brought to its safe state), secured (by the guardian).
CREATE TABLE head_log (
    entry INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    master TEXT NOT NULL,
    head TEXT NOT NULL,              -- empty: all of the Master
    what TEXT NOT NULL,
    reason TEXT NOT NULL,
    user TEXT NOT NULL
) STRICT;

-- Monitored values of heads, as they were declared last.
CREATE TABLE monitors (
    master TEXT NOT NULL,
    head TEXT NOT NULL,
    name TEXT NOT NULL,
    unit TEXT NOT NULL,
    retention REAL NOT NULL,         -- seconds that samples are kept
    PRIMARY KEY (master, head, name)
) STRICT, WITHOUT ROWID;

-- Monitored values: points first … first + n - 1 of each, [[milliseconds after start, value], …]. With values such as
-- 293.125, each read once a second at 64 heads, the database grows by 22 bytes a point, with doubles of 17 digits by
-- 36 (measured): 0.8 to 1.4 GB a week. A row a point would take 100.
CREATE TABLE samples (
    master TEXT NOT NULL,
    head TEXT NOT NULL,
    name TEXT NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    entry INTEGER NOT NULL,          -- number of the last point, over all series
    start INTEGER NOT NULL,          -- milliseconds since 1970, of the first point
    stop INTEGER NOT NULL,           -- the same of the latest
    points TEXT NOT NULL,            -- JSON
    PRIMARY KEY (master, head, name, first)
) STRICT;

-- Progress of evaluations: points first … first + n - 1 of each, [[milliseconds after start, value of each name], …].
CREATE TABLE progress (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    names TEXT NOT NULL,             -- JSON list
    points TEXT NOT NULL,            -- JSON
    PRIMARY KEY (run, task, attempt, first)
) STRICT;

-- The latest points of both, one a row, until they are put together.
CREATE TABLE new_samples (
    entry INTEGER PRIMARY KEY,
    master TEXT NOT NULL,
    head TEXT NOT NULL,
    name TEXT NOT NULL,
    time INTEGER NOT NULL,           -- milliseconds since 1970
    value TEXT NOT NULL              -- JSON
) STRICT;
CREATE TABLE new_progress (
    entry INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    time INTEGER NOT NULL,
    names TEXT NOT NULL,             -- JSON list
    data TEXT NOT NULL               -- JSON list: value of each name
) STRICT;
-- What people decided of tasks first … first + n - 1: proposed (by who put them), approved, rejected, edited. Of an
-- edited one layout and data are the input that it has from then on; its block keeps the one it was put with.
CREATE TABLE approvals (
    entry INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    what TEXT NOT NULL,
    reason TEXT NOT NULL,
    user TEXT NOT NULL,
    time REAL NOT NULL,
    layout INTEGER,
    data BLOB
) STRICT;
CREATE INDEX approvals_of_run ON approvals (run);

-- Requests that somebody has taken and not answered, and until when; claim is what they called this wish.
CREATE TABLE claims (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    claim TEXT NOT NULL,
    who TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (run, task)
) STRICT, WITHOUT ROWID;
""",
    3: """
-- Runs that were deleted, of which there are rows still: they go a few at a time.
CREATE TABLE going (
    run INTEGER PRIMARY KEY
) STRICT;

-- Which rows name a payload file.
CREATE INDEX files_of_blocks ON blocks (file) WHERE file IS NOT NULL;
CREATE INDEX files_of_events ON events (file) WHERE file IS NOT NULL;
""",
    4: """
-- What operators and admins have done, and what somebody was refused; it stays when the run that it was about goes.
CREATE TABLE audit (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,   -- without a gap, and never given again
    time REAL NOT NULL,              -- seconds since 1970
    user TEXT NOT NULL,              -- the name of their key; local: on this machine; empty: the daemon by itself
    role TEXT NOT NULL,
    origin TEXT NOT NULL,            -- from where
    what TEXT NOT NULL,
    master TEXT NOT NULL,
    about TEXT NOT NULL,             -- JSON object
    outcome TEXT NOT NULL,           -- done, refused
    why TEXT NOT NULL,
    times INTEGER NOT NULL           -- how often, of which this is the last
) STRICT;
""",
}
