"""Guardians as their daemon sees them: who hangs is ended and replaced, or, elsewhere, told of."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Hand, Heart, spec
from helpers.tips import TIPS, Tip

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Audited, Effects, HeadChanged
from taskmaster.daemon.guardians import Guardians
from taskmaster.daemon.master import Master
from taskmaster.daemon.roles import LOCAL, Peer

#: Has the lock of a guardian's folder, as one that has outlived its daemon, and does nothing more.
HANGS = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, f"{os.getpid()}\\n".encode())
print("locked", flush=True)
time.sleep(300)
"""


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "stm").mkdir()
    lock = str(tmp_path / "stm" / "lock")
    process = subprocess.Popen([sys.executable, "-c", HANGS, lock], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


class Watch:
    """A daemon's guardians, at a time that is said."""

    def __init__(self, folder: Path) -> None:
        self.guardians = Guardians(folder, "inproc://nowhere", "tested")
        self.guardians.add(Master(spec("stm", "hold", heads=TIPS), 1))
        self.watched: list[int] = []
        self.guardians.watch = self.watched.append

    def until(self, start: int, stop: int, step: int = 1) -> list[str]:
        out = Effects()
        for now in range(start, stop, step):
            self.guardians.look(float(now), {}, out)
        return [alarm.message for alarm in out.alarms]


def test_one_that_never_says_a_word_is_killed(tmp_path: Path, hung: subprocess.Popen[bytes]) -> None:
    watch = Watch(tmp_path)
    assert watch.until(100, 131) == []
    assert len(watch.watched) == 1
    (alarm,) = watch.until(131, 150)
    assert f"(process {hung.pid}) was not heard of for 31 s, and is killed" in alarm
    assert hung.wait(10) == -9


def test_one_that_falls_silent_is_killed_sooner(tmp_path: Path, hung: subprocess.Popen[bytes]) -> None:
    watch = Watch(tmp_path)
    asked = []

    def heard(*who: Any) -> float:
        asked.append(who)
        return 140.0

    watch.guardians.heard = heard
    assert watch.until(100, 151) == []
    assert asked[-1] == ("stm", socket.gethostname(), hung.pid)
    assert len(watch.until(151, 153)) == 1
    assert hung.wait(10) == -9


def test_a_daemon_that_was_still_itself_blames_nobody(tmp_path: Path, hung: subprocess.Popen[bytes]) -> None:
    watch = Watch(tmp_path)
    watch.guardians.heard = lambda *who: 100.0
    watch.until(100, 105)
    assert watch.until(1000, 1010) == []
    assert hung.poll() is None


# -- what the daemon hears of them -------------------------------------------------------------------------------------


ELSEWHERE = {"processes": "elsewhere"}
WES, EVE = Peer("wes", "worker"), Peer("eve", "worker")


def guardian(heart: Heart, version: int = m.PROTOCOL_VERSION, peer: Peer = LOCAL) -> Hand:
    hand = heart.stranger(b"guardian", peer)
    hand.say(m.GuardianHello(version, "stm", "g", 77, "far"))
    return hand


@pytest.mark.parametrize("version", [m.PROTOCOL_VERSION, m.PROTOCOL_VERSION + 1])
def test_it_is_known_when_each_was_heard_of_also_of_those_that_are_refused(version: int) -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS))
    hand = guardian(heart, version)
    assert isinstance(hand.heard[0], m.GuardianPlan) == (version == m.PROTOCOL_VERSION)
    heart.now += 5.0
    hand.say(m.Heartbeat())
    heart.now += 5.0
    workforce = heart.core.workforce
    assert workforce.heard("stm", "far", 77) == heart.now - 5.0
    assert workforce.heard("stm", "far", 78) is None
    assert workforce.heard("stm", "here", 77) is None


def test_one_elsewhere_that_hangs_is_told_of_once_while_its_workers_go_on() -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS, options=ELSEWHERE))
    hand, tip = guardian(heart), Tip(heart, "tip-1")
    hand.say(m.Heartbeat((tip.token,)))

    def seconds(n: int) -> list[m.Alarm]:
        alarms: list[m.Alarm] = []
        for _ in range(n):
            tip.say(m.Heartbeat())
            alarms += heart.tick(1.0).alarms
        return alarms

    assert seconds(10) == []
    (alarm,) = seconds(10)
    assert "on far (process 77) was not heard of for 11 s" in alarm.message
    hand.say(m.Heartbeat((tip.token,)))
    assert len(seconds(20)) == 1
    tip.say(m.WorkerLost(tip.token, "WorkerLost", "it has left"))
    hand.say(m.Heartbeat())
    for _ in range(20):
        assert heart.tick(1.0).alarms == [], "it has gone, with its workers"


def test_nobody_speaks_for_anothers_guardian_or_has_it_forgotten() -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS, options=ELSEWHERE))
    hand = guardian(heart)
    eve = heart.stranger(b"guardian", EVE)
    heart.now += 5.0
    eve.say(m.Heartbeat())
    eve.say(m.Guarded(heart.now, "stm", "tip-2", "its worker died"))
    workforce = heart.core.workforce
    assert workforce.heard("stm", "far", 77) == heart.now - 5.0
    assert not any(info.safe for info in heart.ask(m.ListHeads(9, "stm"), m.HeadList).heads)
    for k in range(1000):
        eve.address = b"eve %d" % k
        eve.say(m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g", k, "hers"))
    hand.say(m.Heartbeat())
    assert workforce.heard("stm", "far", 77) == heart.now
    assert b"eve 999" in workforce._guardian_at
    assert b"eve 9" not in workforce._guardian_at, "and of hers the latest are remembered"


def test_a_guardian_whose_connection_is_another_is_asked_who_it_is() -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS))
    hand, tip = guardian(heart), Tip(heart, "tip-1")
    heart.hands.pop(hand.address)
    hand.address = b"again"
    heart.hands[hand.address] = hand
    hand.heard.clear()
    hand.say(m.Heartbeat((tip.token,)))
    assert [note.code for note in hand.heard if isinstance(note, m.Refused)] == [m.HELLO]


# -- who speaks for a head --------------------------------------------------------------------------------------------


def unsafe(heart: Heart) -> list[str]:
    """The heads that are said not to be safe."""
    return [head.spec.name for head in heart.core.masters["stm"].heads if head.unsafe]


def guards(hand: Hand, head: str, error: str = "") -> Effects:
    """A guardian says how it went with a head."""
    hand.heard.clear()
    return hand.say(m.Guarded(hand.heart.now, "stm", head, "its worker died", error))


def changed(out: Effects) -> list[str]:
    """What became of heads, as it is put on record."""
    return [record.what for record in out.records if isinstance(record, HeadChanged)]


def test_nobody_from_the_network_has_to_do_with_the_heads_of_an_instrument_that_is_here() -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS))
    local = guardian(heart)
    guards(local, "tip-1", "it does not answer")
    assert unsafe(heart) == ["tip-1"]
    eve = heart.stranger(b"eve", EVE)
    said: list[m.WorkerMessage] = [
        m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g", 77, "far"),
        m.Guarded(heart.now, "stm", "tip-1", "its worker died"),
        m.Guarded(heart.now, "stm", "tip-2", "its worker died", "it does not answer"),
        m.WorkerHello(m.PROTOCOL_VERSION, "stm", "hers", head="tip-1"),
    ]
    audited = []
    for message in said:
        out = eve.say(message)
        (refused,) = eve.heard
        assert refused.code == "not_allowed"
        assert 'configuration says processes = "elsewhere"' in refused.message
        eve.heard.clear()
        assert not changed(out)
        assert not out.alarms
        audited += [record for record in out.records if isinstance(record, Audited)]
    assert [(entry.user, entry.what, entry.outcome) for entry in audited] == [("eve", "guardian", "refused")]
    assert unsafe(heart) == ["tip-1"]
    counted = [record for record in heart.tick(1.0).records if isinstance(record, Audited)]
    assert [entry.times for entry in counted] == [len(said) - 1]


def test_nobody_from_the_network_is_taken_for_the_guardian_that_is_here() -> None:
    """A worker's key may know its host and its process id, and keep unnoticed that it hangs."""
    heart = Heart(spec("stm", "hold", heads=TIPS), spec("sem", "hold", heads=TIPS, options=ELSEWHERE))
    eve = heart.stranger(b"eve", EVE)
    for master in ("stm", "sem"):
        eve.say(m.GuardianHello(m.PROTOCOL_VERSION, master, "g", 77, "here"))
        eve.say(m.Heartbeat())
        assert heart.core.workforce.heard(master, "here", 77) is None


def test_for_a_head_speaks_who_hosts_its_worker_also_when_that_has_gone() -> None:
    heart = Heart(spec("stm", "hold", heads=TIPS, options=ELSEWHERE))
    hers = heart.stranger(b"hers", EVE)
    hers.say(m.GuardianHello(m.PROTOCOL_VERSION, "stm", "h"))
    hand, tip = guardian(heart, peer=WES), Tip(heart, "tip-1", WES)
    hand.say(m.Heartbeat((tip.token,)))
    audited: list[Audited] = []

    def is_hers_heeded(error: str) -> bool:
        before = unsafe(heart)
        out = guards(hers, "tip-1", error)
        assert [note.code for note in hers.heard] == [m.UNHEEDED]
        assert "key 'eve' is not that of the worker that head 'tip-1'" in hers.heard[0].message
        audited.extend(record for record in out.records if isinstance(record, Audited))
        return bool(changed(out) or out.alarms or unsafe(heart) != before)

    assert not is_hers_heeded("nonsense")
    hand.say(m.WorkerLost(tip.token, "WorkerLost", "it died"))
    assert not is_hers_heeded("nonsense")
    assert changed(guards(hand, "tip-1", "it does not answer")) == ["unsafe"]
    assert not is_hers_heeded("")
    assert [(entry.user, entry.what, entry.outcome) for entry in audited] == [("eve", "guarded", "refused")]
    counted = [record for record in heart.tick(1.0).records if isinstance(record, Audited)]
    assert [entry.times for entry in counted] == [2]
    again = guardian(heart, peer=WES)  # of that machine, in another process, and with another connection
    again.address = b"again"
    heart.hands.update({hand.address: hand, again.address: again})
    again.say(m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g2"))
    assert changed(guards(again, "tip-1")) == ["secured"]
    assert unsafe(heart) == []
    Tip(heart, "tip-1", EVE)
    assert changed(guards(hers, "tip-1", "it does not answer")) == ["unsafe"], "now it is hers"
    guards(hand, "tip-1")
    assert [note.code for note in hand.heard] == [m.UNHEEDED]


def test_of_a_head_that_nobody_has_had_since_the_daemons_start_a_guardian_is_heeded() -> None:
    """Its worker died while the daemon was away; of which Master it is a guardian, it has to say before."""
    heart = Heart(
        spec("stm", "hold", heads=TIPS, options=ELSEWHERE), spec("sem", "hold", heads=TIPS, options=ELSEWHERE)
    )
    hand = heart.stranger(b"guardian", WES)
    assert not changed(guards(hand, "tip-1", "it does not answer"))
    assert [note.code for note in hand.heard] == [m.HELLO]
    hand.say(m.GuardianHello(m.PROTOCOL_VERSION, "sem", "g"))
    assert not changed(guards(hand, "tip-1", "it does not answer"))
    hand.say(m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g"))
    assert changed(guards(hand, "tip-1", "it does not answer")) == ["unsafe"]


def test_the_guardian_here_is_heeded_before_it_has_said_hello() -> None:
    """What it said while the daemon was away comes before that."""
    heart = Heart(spec("stm", "hold", heads=TIPS))
    assert changed(guards(heart.stranger(b"guardian"), "tip-1")) == ["secured"]
