"""All SQL of the journal but its tables (`daemon.journal.migrations`), named.

Rows are blocks and chunks, not tasks. ``data`` holds the raw frames of a table one after the other, as its layout says
(little-endian, row by row); where they are large they lie in ``payloads/`` under the SHA-256 in ``file`` instead.
"""

#: Set on the writer's connection. The page cache is small: rows are written once and rarely read.
PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA foreign_keys = OFF;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -8000;
"""

GET_META = "SELECT value FROM meta WHERE key = ?"
SET_META = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

INSERT_RUN = """
INSERT INTO runs (run, master, name, seed, created, user, metadata, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_WRITER = """
INSERT INTO writers (run, writer, user, time, claim, first, metadata, forked) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
SET_WRITER_METADATA = "UPDATE writers SET metadata = ? WHERE run = ? AND writer = ?"
SELECT_WRITERS = """
SELECT writer, first, user, time, metadata, forked FROM writers WHERE run = ? AND writer > ? ORDER BY writer
"""
#: What the openings of all runs were called by those who asked, oldest first.
SELECT_CLAIMS = "SELECT run, claim, writer FROM writers WHERE claim <> '' ORDER BY run, writer"
SET_WRITER = "UPDATE runs SET writer = ? WHERE run = ?"
SET_RUN_SWITCHES = "UPDATE runs SET closed = ?, paused = ?, priority = ? WHERE run = ?"
SET_RUN_COUNTS = "UPDATE runs SET next_index = ?, next_seq = ?, done = ?, failed = ?, cancelled = ? WHERE run = ?"
SET_MASTER = "INSERT INTO masters (master, paused) VALUES (?, ?) ON CONFLICT DO UPDATE SET paused = excluded.paused"
SET_STOPPED = """
INSERT INTO masters (master, stopped) VALUES (?, ?) ON CONFLICT DO UPDATE SET stopped = excluded.stopped
"""
SET_HEAD = "INSERT OR REPLACE INTO heads (master, head, out, quarantined, tripped) VALUES (?, ?, ?, ?, ?)"
SET_HEAD_COUNTS = """
INSERT OR REPLACE INTO head_counts (master, head, tasks, busy, error, error_time) VALUES (?, ?, ?, ?, ?, ?)
"""
INSERT_HEAD_LOG = "INSERT INTO head_log (time, master, head, what, reason, user) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_APPROVAL = """
INSERT INTO approvals (run, first, n, what, reason, user, time, layout, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SET_CLAIM = "INSERT OR REPLACE INTO claims (run, task, claim, who, since, until) VALUES (?, ?, ?, ?, ?, ?)"
DELETE_CLAIM = "DELETE FROM claims WHERE run = ? AND task = ?"
INSERT_AUDIT = """
INSERT INTO audit (entry, time, user, role, origin, what, master, about, outcome, why, times)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE_AUDIT = "DELETE FROM audit WHERE entry <= ?"
INSERT_LAYOUT = "INSERT INTO layouts (layout, json) VALUES (?, ?)"
SELECT_LAYOUTS = "SELECT layout, json FROM layouts"
INSERT_BLOCK = """
INSERT INTO blocks (run, first, n, layout, asks, digest, time, user, data, file) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_EVENT = """
INSERT INTO events (run, seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_LEASE = """
INSERT OR REPLACE INTO leases (epoch, number, run, first, n, attempt, worker, local, time, name)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_PLACE = "INSERT OR REPLACE INTO places (run, first, n, head, capability) VALUES (?, ?, ?, ?, ?)"
SET_CHECKPOINT = """
INSERT OR REPLACE INTO checkpoints (run, task, attempt, head, epoch, lease, number, time, token, lost)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE_CHECKPOINT = "DELETE FROM checkpoints WHERE run = ? AND task = ?"
SELECT_PLACES = "SELECT first, n, head, capability FROM places WHERE run = ? ORDER BY first"
SELECT_CHECKPOINTS = """
SELECT task, attempt, head, epoch, lease, number, time, token, lost FROM checkpoints WHERE run = ? ORDER BY task
"""
DELETE_LEASE = "DELETE FROM leases WHERE epoch = ? AND number = ?"
SET_ATTEMPTS = """
INSERT INTO attempts (run, task, attempts) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET attempts = excluded.attempts
"""

#: The tables that have little of a run; and those that may have much.
_OF_RUN = (
    "leases",
    "attempts",
    "places",
    "checkpoints",
    "approvals",
    "claims",
    "new_progress",
    "writers",
    "runs",
)
DELETE_RUN = tuple(f"DELETE FROM {table} WHERE run = ?" for table in _OF_RUN)
#: Of each of the others: its last ?2 rows (key, bytes of what is in it, payload file); and how those from a key on go.
CLEAR_RUN = (
    (
        "SELECT seq, coalesce(length(data), 0), file FROM events WHERE run = ?1 ORDER BY seq DESC LIMIT ?2",
        "DELETE FROM events WHERE run = ?1 AND seq >= ?2",
    ),
    (
        "SELECT first, coalesce(length(data), 0), file FROM blocks WHERE run = ?1 ORDER BY first DESC LIMIT ?2",
        "DELETE FROM blocks WHERE run = ?1 AND first >= ?2",
    ),
    (
        "SELECT task, length(points), NULL FROM progress WHERE run = ?1 ORDER BY task DESC LIMIT ?2",
        "DELETE FROM progress WHERE run = ?1 AND task >= ?2",
    ),
)
INSERT_GOING = "INSERT INTO going (run) VALUES (?)"
DELETE_GOING = "DELETE FROM going WHERE run = ?"
SELECT_GOING = "SELECT run FROM going"
#: Whether any row names a payload file.
IS_NAMED = "SELECT EXISTS (SELECT 1 FROM blocks WHERE file = ?1) OR EXISTS (SELECT 1 FROM events WHERE file = ?1)"
#: Names of all payload files that any row needs.
FILES = "SELECT file FROM blocks WHERE file IS NOT NULL UNION SELECT file FROM events WHERE file IS NOT NULL"

#: All runs, and where the last block and the last event of each end; the counts in its row may lag behind.
SELECT_RUNS = """
SELECT run, master, name, seed, created, user, metadata, priority, closed, paused, writer, next_index, next_seq, done,
       failed, cancelled,
       coalesce((SELECT first + n FROM blocks WHERE blocks.run = runs.run ORDER BY first DESC LIMIT 1), 0),
       coalesce((SELECT seq + n FROM events WHERE events.run = runs.run ORDER BY seq DESC LIMIT 1), 0)
FROM runs ORDER BY run
"""
SELECT_RUN = SELECT_RUNS.replace("FROM runs ORDER BY run", "FROM runs WHERE run = ?1")
#: Outcomes of a run from event ?2 on: tasks, and how many of them failed, by kind.
COUNT_EVENTS = """
SELECT kind, sum(n), sum(coalesce(json_array_length(errors), 0)) FROM events
WHERE run = ?1 AND seq >= ?2 AND kind IN ('done', 'cancelled') GROUP BY kind
"""
#: The highest number that was ever given to a run.
LAST_RUN = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
#: The same for a journal that has had no run yet.
SET_LAST_RUN = "INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?)"
SELECT_MASTERS = "SELECT master, paused FROM masters"
SELECT_STOPPED = "SELECT master, stopped FROM masters"
SELECT_HEAD_COUNTS = "SELECT head, tasks, busy, error, error_time FROM head_counts WHERE master = ?"
SELECT_HEADS = "SELECT head, out, quarantined, tripped FROM heads WHERE master = ?"
#: The tasks of a run that have an outcome.
SELECT_ENDED = "SELECT first, n FROM events WHERE run = ? AND kind IN ('done', 'cancelled')"
#: The tasks of a run that were ever held and those released since, in order; why, the first of an event says for all.
SELECT_HELD = """
SELECT kind, first, n, attempt, worker, finished, coalesce(json_extract(errors, '$[0][2]'), '')
FROM events WHERE run = ? AND kind IN ('held', 'released') ORDER BY seq
"""
SELECT_BLOCKS = "SELECT first, n, layout, data, file FROM blocks WHERE run = ? ORDER BY first"
SELECT_CLAIMED = "SELECT run, task, claim, who, since, until FROM claims ORDER BY since, run, task"
#: What was decided of the tasks of a run, in order.
SELECT_APPROVALS = "SELECT first, n, what, user, layout, data FROM approvals WHERE run = ? ORDER BY entry"
#: The tasks of a run that have another input than they were put with, the last one of each at the end.
SELECT_EDITED = "SELECT first, layout, data FROM approvals WHERE run = ? AND what = 'edited' ORDER BY entry"
#: When a task was put.
SUBMITTED_AT = "SELECT time FROM blocks WHERE run = ? AND first <= ? ORDER BY first DESC LIMIT 1"
#: The outcome of task ?2, as a row of SELECT_EVENTS.
SELECT_OUTCOME = """
SELECT seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file
FROM events WHERE run = ?1 AND first <= ?2 AND first + n > ?2 AND kind IN ('done', 'cancelled') LIMIT 1
"""
SELECT_BLOCK_DIGEST = "SELECT n, digest FROM blocks WHERE run = ? AND first = ?"
#: The blocks that hold any of the tasks ?2 ≤ i < ?3.
SELECT_BLOCKS_OF = """
SELECT first, n, layout, data, file FROM blocks
WHERE run = ?1 AND first < ?3 AND first >= coalesce((SELECT max(first) FROM blocks WHERE run = ?1 AND first <= ?2), 0)
ORDER BY first
"""
#: The same, each whole, with what the learner was asked.
SELECT_ASKS = """
SELECT first, n, layout, data, file, asks FROM blocks
WHERE run = ?1 AND first >= coalesce((SELECT max(first) FROM blocks WHERE run = ?1 AND first <= ?2), 0)
ORDER BY first
"""
SELECT_LEASES = """
SELECT epoch, number, run, first, n, attempt, worker, local, time, name FROM leases ORDER BY epoch DESC, number DESC
"""
SELECT_ATTEMPTS = "SELECT task, attempts FROM attempts WHERE run = ? ORDER BY task"
#: Rows of events from the one that holds number ?2 on.
SELECT_EVENTS = """
SELECT seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file
FROM events
WHERE run = ?1 AND seq >= coalesce((SELECT max(seq) FROM events WHERE run = ?1 AND seq <= ?2), 0)
ORDER BY seq
"""
LAST_SEQ = "SELECT seq + n FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1"
LAST_INDEX = "SELECT first + n FROM blocks WHERE run = ? ORDER BY first DESC LIMIT 1"

# -- the record of who has done what, see `daemon.auditing` -----------------------------------------------------------

SELECT_ALL_AUDIT = """
SELECT entry, time, user, role, origin, what, master, about, outcome, why, times FROM audit ORDER BY entry
"""
#: Entries above ?1 and up to ?2, from ?3 on and before ?4, of the user ?5 and about the Master ?6, where one is named.
SELECT_AUDIT = """
SELECT entry, time, user, role, origin, what, master, about, outcome, why, times FROM audit
WHERE entry > ?1 AND entry <= ?2 AND time >= ?3 AND time < ?4 AND (?5 IS NULL OR user = ?5)
AND (?6 IS NULL OR master = ?6 OR (master = '' AND what IN ('stop', 'reset'))) ORDER BY entry
"""
AUDIT_ENDS = "SELECT (SELECT min(entry) FROM audit), (SELECT max(entry) FROM audit)"
#: Of the ?2 oldest entries the last one before the first that is not older than ?1.
EXPIRED_AUDIT = """
WITH oldest AS (SELECT entry, time FROM audit ORDER BY entry LIMIT ?2)
SELECT coalesce((SELECT min(entry) - 1 FROM oldest WHERE time >= ?1), (SELECT max(entry) FROM oldest))
"""
#: How many entries there are, the first and the last, and the highest number that was ever given to one.
COUNT_AUDIT = """
SELECT count(*), min(entry), max(entry), (SELECT seq FROM sqlite_sequence WHERE name = 'audit') FROM audit
"""
#: The last of these; and the same for a journal that lacks the last entries.
LAST_AUDIT = "SELECT seq FROM sqlite_sequence WHERE name = 'audit'"
SET_LAST_AUDIT = "INSERT INTO sqlite_sequence (name, seq) VALUES ('audit', ?)"
FORGET_LAST_AUDIT = "DELETE FROM sqlite_sequence WHERE name = 'audit'"

# -- forks, see `daemon.journal.forks` --------------------------------------------------------------------------------

#: The first block of a run in which the learner was asked when it had been told event ?2, or put something then.
FIRST_ASKED_SINCE = """
SELECT first, n, asks FROM blocks
WHERE run = ?1 AND EXISTS (SELECT 1 FROM json_each(blocks.asks) WHERE json_extract(value, '$[1]') >= ?2)
ORDER BY first LIMIT 1
"""
#: How far the tasks go of which the first ?2 events of a run tell.
TASKS_OF_EVENTS = """
SELECT max(first + min(n, ?2 - seq)) FROM events
WHERE run = ?1 AND seq < ?2 AND kind NOT IN ('closed', 'reopened')
"""
COUNT_ROWS = "SELECT (SELECT count(*) FROM blocks WHERE run = ?1) + (SELECT count(*) FROM events WHERE run = ?1)"
#: The blocks of run ?2 that end at task ?3, or before, are those of run ?1, too; so with events.
COPY_BLOCKS = """
INSERT INTO blocks (run, first, n, layout, asks, digest, time, user, data, file)
SELECT ?1, first, n, layout, asks, digest, time, user, data, file FROM blocks WHERE run = ?2 AND first + n <= ?3
"""
#: The block that begins before task ?2 and ends behind it.
SELECT_BLOCK_ACROSS = """
SELECT first, n, layout, asks, time, user, data, file FROM blocks WHERE run = ?1 AND first < ?2 AND first + n > ?2
"""
#: The block that ends at task ?2, if one does.
BLOCK_BEFORE = "SELECT first, n, asks FROM blocks WHERE run = ? AND first < ? ORDER BY first DESC LIMIT 1"
LAST_BLOCK = "SELECT first, n, asks FROM blocks WHERE run = ? ORDER BY first DESC LIMIT 1"
SET_ASKS = "UPDATE blocks SET asks = ? WHERE run = ? AND first = ?"
COPY_EVENTS = """
INSERT INTO events (run, seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file)
SELECT ?1, seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file
FROM events WHERE run = ?2 AND seq + n <= ?3
"""
#: One row of events of run ?2 gets the number ?4 there.
COPY_EVENT = """
INSERT INTO events (run, seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file)
SELECT ?1, ?4, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file
FROM events WHERE run = ?2 AND seq = ?3
"""
#: Outcomes that end behind the first ?2 events, of tasks below ?3; and such a row, whole.
OUTCOMES_BEHIND = """
SELECT seq, n, first FROM events
WHERE run = ?1 AND seq + n > ?2 AND first < ?3 AND kind IN ('done', 'cancelled') ORDER BY seq
"""
SELECT_EVENT = """
SELECT seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file
FROM events WHERE run = ?1 AND seq = ?2
"""
#: What was proposed has to be approved again, unless it has ended.
COPY_APPROVALS = """
INSERT INTO approvals (run, first, n, what, reason, user, time, layout, data)
SELECT ?1, first, min(n, ?3 - first), what, reason, user, time, layout, data FROM approvals
WHERE run = ?2 AND first < ?3 AND what IN ('proposed', 'edited') ORDER BY entry
"""
COPY_PLACES = """
INSERT INTO places (run, first, n, head, capability)
SELECT ?1, first, min(n, ?3 - first), head, capability FROM places WHERE run = ?2 AND first < ?3
"""
#: What evaluations of the tasks ?3 to ?4 - 1 of run ?2 told of their progress is told of those of run ?1, too: what is
#: put together, and behind that what is new, a row a point.
COPY_PROGRESS = """
INSERT INTO progress (run, task, attempt, first, n, entry, start, stop, names, points)
SELECT ?1, task, attempt, first, n, entry, start, stop, names, points FROM progress
WHERE run = ?2 AND task >= ?3 AND task < ?4
"""
COPY_NEW_PROGRESS = """
INSERT INTO progress (run, task, attempt, first, n, entry, start, stop, names, points)
SELECT ?1, new.task, new.attempt,
    coalesce((SELECT max(first + n) FROM progress WHERE run = ?2 AND task = new.task AND attempt = new.attempt), 0)
        + row_number() OVER (PARTITION BY new.task, new.attempt ORDER BY new.entry) - 1,
    1, new.entry, new.time, new.time, new.names, '[[0,' || substr(new.data, 2) || ']'
FROM new_progress AS new WHERE new.run = ?2 AND new.task >= ?3 AND new.task < ?4
"""
#: Who had opened run ?2 while there was a task to come that run ?1 has, too: of its first ?3 tasks.
COPY_WRITERS = """
INSERT INTO writers (run, writer, user, time, claim, first, metadata, forked)
SELECT ?1, writer, user, time, '', first, metadata, 1 FROM writers WHERE run = ?2 AND first < ?3
"""
SET_LAST_WRITER = """
UPDATE runs SET writer = coalesce((SELECT max(writer) FROM writers WHERE run = ?1), 0) WHERE run = ?1
"""
LAST_SWITCH = """
SELECT kind FROM events WHERE run = ?1 AND seq < ?2 AND kind IN ('closed', 'reopened') ORDER BY seq DESC LIMIT 1
"""

# -- series in time, see `daemon.series` ------------------------------------------------------------------------------

INSERT_NEW_SAMPLE = "INSERT INTO new_samples (entry, master, head, name, time, value) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_NEW_PROGRESS = """
INSERT INTO new_progress (entry, run, task, attempt, time, names, data) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
INSERT_SAMPLES = """
INSERT INTO samples (master, head, name, first, n, entry, start, stop, points) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_PROGRESS = """
INSERT INTO progress (run, task, attempt, first, n, entry, start, stop, names, points)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
#: All of it is put together at once: SQLite then gives the pages back without looking at the rows.
EMPTY_NEW = ("DELETE FROM new_samples", "DELETE FROM new_progress")
SELECT_NEW_SAMPLES = "SELECT entry, master, head, name, time, value FROM new_samples ORDER BY entry"
SELECT_NEW_PROGRESS = "SELECT entry, run, task, attempt, time, names, data FROM new_progress ORDER BY entry"
#: Where a series ends.
END_OF_SAMPLES = """
SELECT first + n FROM samples WHERE master = ? AND head = ? AND name = ? ORDER BY first DESC LIMIT 1
"""
END_OF_PROGRESS = """
SELECT first + n FROM progress WHERE run = ? AND task = ? AND attempt = ? ORDER BY first DESC LIMIT 1
"""
#: The same of all evaluations of a run's tasks from ?2 on.
ENDS_OF_PROGRESS = """
SELECT task, attempt, max(first + n) FROM progress WHERE run = ? AND task >= ? GROUP BY task, attempt
"""
SELECT_MONITORS = "SELECT master, head, name, unit, retention FROM monitors"
#: The monitored value that follows one in order.
NEXT_MONITOR = """
SELECT master, head, name, retention FROM monitors WHERE (master, head, name) > (?, ?, ?)
ORDER BY master, head, name LIMIT 1
"""
SET_MONITOR = "INSERT OR REPLACE INTO monitors (master, head, name, unit, retention) VALUES (?, ?, ?, ?, ?)"
#: Of the ?5 oldest rows of a monitored value those that ended before ?4; never the last row, which holds its number.
_EXPIRED = """
FROM samples WHERE master = ?1 AND head = ?2 AND name = ?3 AND stop < ?4 AND first IN (
    SELECT first FROM samples WHERE master = ?1 AND head = ?2 AND name = ?3 ORDER BY first LIMIT ?5
) AND first < (SELECT max(first) FROM samples WHERE master = ?1 AND head = ?2 AND name = ?3)
"""
COUNT_EXPIRED = f"SELECT count(*) {_EXPIRED}"
DELETE_EXPIRED = f"DELETE {_EXPIRED}"
#: Rows of a run's progress from point ?4 of a series on. Those that end before entry ?5 come without their points:
#: SQLite then leaves the pages alone on which these lie.
SELECT_PROGRESS = """
SELECT task, attempt, first, n, start, names, CASE WHEN entry > ?5 THEN points END FROM progress
WHERE run = ?1 AND (task, attempt, first) >= (?2, ?3, coalesce(
    (SELECT max(first) FROM progress WHERE run = ?1 AND task = ?2 AND attempt = ?3 AND first <= ?4), 0))
ORDER BY task, attempt, first
"""
#: The same of a Master's samples; with points only those that overlap the time from ?6 to ?7.
SELECT_SAMPLES = """
SELECT head, name, first, n, start, CASE WHEN entry > ?5 AND stop >= ?6 AND start <= ?7 THEN points END
FROM samples
WHERE master = ?1 AND (head, name, first) >= (?2, ?3, coalesce(
    (SELECT max(first) FROM samples WHERE master = ?1 AND head = ?2 AND name = ?3 AND first <= ?4), 0))
ORDER BY head, name, first
"""
