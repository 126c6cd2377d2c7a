"""Topics of the results socket. ZeroMQ matches them as prefixes, so every one ends where no other goes on."""

from __future__ import annotations

__all__ = [
    "ALARMS",
    "events_topic",
    "master_of",
    "parse_people_topic",
    "parse_series_topic",
    "parse_topic",
    "people_topic",
    "progress_topic",
    "samples_topic",
    "with_inputs_topic",
]

#: Alarms of the whole daemon.
ALARMS = b"@alarms"
_PEOPLE = b"@people/"


def events_topic(master: str, run: int) -> bytes:
    """Events of a run without inputs: for its writer, who has them."""
    return b"%s/%d/o" % (master.encode(), run)


def with_inputs_topic(master: str, run: int) -> bytes:
    """Events of a run with the inputs of the tasks: for everybody else."""
    return b"%s/%d/io" % (master.encode(), run)


def progress_topic(master: str, run: int) -> bytes:
    """What the evaluations of a run tell of their progress."""
    return b"%s/%d/p" % (master.encode(), run)


def samples_topic(master: str) -> bytes:
    """Monitored values of a Master's heads."""
    return b"%s/@samples" % master.encode()


def parse_series_topic(topic: bytes) -> tuple[str, int] | None:
    """The Master and the run (0: its samples) whose series a topic carries; None where it carries none."""
    parts = topic.split(b"/")
    try:
        if len(parts) == 3 and parts[2] == b"p" and parts[1].isdigit() and len(parts[1]) < 19:
            return parts[0].decode(), int(parts[1])
        if len(parts) == 2 and parts[1] == b"@samples":
            return parts[0].decode(), 0
    except UnicodeDecodeError:
        return None
    return None


def parse_topic(topic: bytes) -> int | None:
    """The run whose events a topic carries; None where it is no run's topic (a prefix, say)."""
    parts = topic.split(b"/")
    if len(parts) == 3 and parts[2] in (b"o", b"io") and parts[1].isdigit() and len(parts[1]) < 19:
        return int(parts[1])
    return None


def master_of(topic: bytes) -> str | None:
    """The Master that all of what a topic carries is about; None where it is a prefix of several, or another one."""
    if (people := parse_people_topic(topic)) is not None:
        return people
    if parse_topic(topic) is None and parse_series_topic(topic) is None:
        return None
    return topic.partition(b"/")[0].decode(errors="replace")


def people_topic(master: str) -> bytes:
    """What of a Master waits for people."""
    return b"%s%s/" % (_PEOPLE, master.encode())


def parse_people_topic(topic: bytes) -> str | None:
    """The Master whose requests and proposed tasks a topic is about; None where it is another one."""
    if not topic.startswith(_PEOPLE) or not topic.endswith(b"/"):
        return None
    return topic[len(_PEOPLE) : -1].decode(errors="replace") or None
