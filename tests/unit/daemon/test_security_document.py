"""docs/security.md: what one key may take, and for how long, are the numbers that the daemon goes by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.documents import document, section, tables

from taskmaster.bus import codec, messages as m, sockets, text, wire
from taskmaster.config.settings import DaemonSettings
from taskmaster.daemon import (
    answering,
    bounds,
    broker,
    connections,
    diskshares,
    doorkeeper,
    following,
    forking,
    gatehouse,
    inquiries,
    master,
    opening,
    workforce,
)
from taskmaster.daemon.roles import RULES, Right

DOCUMENT = document("docs/security.md")
SECTION = section(DOCUMENT, "What one key may take")
[TABLE] = tables(SECTION)
MIB = 1 << 20


def n(number: float) -> str:
    """As documents write numbers: with a space in those of five digits and more."""
    return f"{number:,.0f}".replace(",", " ") if number >= 10_000 else f"{number:.0f}"


def bound_rows() -> Iterator[tuple[str, tuple[str, ...]]]:
    """How a row of the table begins, and what it has to say."""
    yield (
        "messages a second",
        (
            f"each {bounds.TOKEN_BYTES >> 10} kB of one",
            f"each {bounds.HEADER_TOKEN_BYTES} B of what is said before its tables",
            f"of too many frames each {bounds.TOKEN_FRAMES} as one",
            f"each {forking._TOKEN_ROWS} rows of the journal that a fork copies",
            f"each {bounds.TOKEN_WORKERS} workers that a host vouches for",
            f"max_rate`, {n(bounds.RATE)}",
            f"kept out for {bounds.FIRST_BAR:g} s",
        ),
    )
    yield (
        "what a client says",
        (
            f"names of {wire.LONGEST_NAME} characters, reasons of {n(text.LONGEST_TEXT)}",
            f"{n(wire.MOST_INTERVALS)} intervals",
            f"header {codec.MAX_HEADER // MIB} MiB",
        ),
    )
    yield "frames of a message", (n(codec.MAX_FRAMES),)
    yield (
        "what a worker or its host says",
        (
            f"cut to {workforce._LONGEST_REASON}",
            f"{n(wire.MOST_LEASES)} leases, {n(wire.MOST_ERRORS)} errors, {n(wire.MOST_TOKENS)} workers",
        ),
    )
    yield "workers at a time", (n(workforce.MOST_WORKERS),)
    yield (
        "bytes sent that are no whole message yet",
        (
            f"{connections._UNREAD // MIB} MiB and four times `max_message`",
            f"of all keys together {connections._UNREAD_IN_ALL // MIB} MiB",
            f"has grown by {connections._GROWTH // MIB} MiB",
        ),
    )
    yield (
        "topics followed",
        (
            f"{n(bounds.MOST_TOPICS)}, of {following.TOPIC_BYTES} characters at most",
            f"each {following._WEIGHTY} characters of one count",
        ),
    )
    yield "messages by a connection whose key", (f"{gatehouse.LAST_WORDS}, for {gatehouse.LAST_WORDS_SECONDS:g} s",)
    most = DaemonSettings.model_fields["max_connections"].default
    yield "connections from an address", (f"max_connections`, {n(most)}",)
    yield "connections by which nothing was said", (n(bounds.MOST_SILENT),)
    yield "connections in all", (f"{n(bounds.MOST_ARRIVALS)} at once, and {n(bounds.MORE_ARRIVALS)} more each second",)
    yield "forks that wait", (n(broker.MOST_FORKS),)
    yield (
        "handshakes",
        (f"{sockets.HANDSHAKE_SECONDS:g} s to complete one; {doorkeeper._HANDSHAKES} answered in a turn",),
    )
    yield (
        "answers on their way",
        (
            f"{answering.ON_THE_WAY} for a connection, {answering.OWNER_ON_THE_WAY} for all its connections",
            f"{n(answering.WAITING)} questions waiting of a connection, {n(answering.OWNER_WAITING)} of all",
            f"lists up to {inquiries.MOST_LISTED} workers",
        ),
    )
    yield "tasks waiting for a Master", {0.75: ("three quarters of",)}[master.SHARE]
    yield "bytes put within a day", (f"{diskshares.LEAST_SHARE // MIB} MiB at the least",)
    yield (
        "runs that were not deleted",
        (
            f"{n(opening.MOST_RUNS)}; {opening.MOST_METADATA >> 10} KiB of one",
            f"{opening.MOST_METADATA_IN_ALL // MIB} MiB in all",
        ),
    )


@pytest.mark.parametrize(
    ("begins", "says"), list(bound_rows()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bound_is_that_of_the_code(begins: str, says: tuple[str, ...]) -> None:
    [row] = [row for row in TABLE if row[0].startswith(begins)]
    for words in says:
        assert words in " ".join(row)


def test_every_row_is_known() -> None:
    assert len(list(bound_rows())) == len(TABLE)
    words = " ".join(SECTION.split())
    assert f"In all {n(following.TOPICS)} different topics" in words
    assert f"who follows more than {following.FEW} gets no further ones" in words


#: What costs more than a message, in the document's words.
DEAR: dict[str, tuple[type[m.Message], ...]] = {
    "a status as {} further ones": (m.Status,),
    "a list of runs or of heads as {}": (m.ListRuns, m.ListHeads),
    "opening a run, deleting it, recording which learner asks, and what takes an operator as {}": (
        m.Open, m.Delete, m.NoteWriter,
        *(kind for kind, rule in RULES.items() if rule.right in (Right.OPERATE, Right.ADMINISTER)),
    ),
    "recording what it was asked as {}": (m.NoteAsks,),
    "a fork and what is no message as {}": (m.Fork,),
    "a worker's hello as {} further ones": (m.WorkerHello,),
    "its end, and what it says of its head, an interlock or a task in doubt, as {} further ones": (
        m.WorkerLost, m.WorkerFailed, m.HeadReport, m.Tripped, m.Reconciled,
    ),
    "a checkpoint as {}": (m.Checkpoint,),
    "a guardian's hello and what it says of a head as {}": (m.GuardianHello, m.Guarded),
}  # fmt: skip


def test_what_is_dear_is_said_to_be() -> None:
    assert {kind for kinds in DEAR.values() for kind in kinds} == set(bounds.COSTS)
    for words, kinds in DEAR.items():
        [cost] = {bounds.COSTS[kind] for kind in kinds}
        assert words.format(f"{cost:g}") in TABLE[0][0]
    assert bounds.COSTS[m.Fork] == bounds.NONSENSE
