"""Who asks for much delays itself: questions answered by reading, through ZeroMQ's own sockets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TypeAlias

import pytest
import zmq
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.daemon.answering import (
    LAST_LOOK,
    ON_THE_WAY,
    OWNER_ON_THE_WAY,
    OWNER_WAITING,
    TURN_BYTES,
    WAITING,
    Answer,
    Answers,
    Question,
)
from taskmaster.daemon.effects import Query
from taskmaster.daemon.roles import LOCAL, Peer

Socket: TypeAlias = "zmq.Socket[bytes]"

PATIENCE_MS = round(1e3 * PATIENCE)
#: More than the system's buffers for a connection take in.
LARGE = 4 << 20
MAD, ANNA = Peer("mad", "observer"), Peer("anna", "observer")
#: Answers that a peer that does not read is sent all the same: those on their way, and those its own buffers take.
FEW = ON_THE_WAY + 2
_decode = codec.daemon_decoder().decode


class Desk:
    """Answers, with as many bytes as a replay's ``limit`` says, and peers that ask."""

    def __init__(self, context: zmq.Context[Socket], folder: Path) -> None:
        self._context = context
        self._address = f"ipc://{folder}/control"
        self._router = sockets.router(context)
        self._router.bind(self._address)
        self.answers = Answers(self._router, self._answer)
        self.given: list[int] = []
        self._addresses: dict[Socket, bytes] = {}
        self.clock = count(20.0)

    def peer(self) -> Socket:
        """One more, which takes one message ahead of what it reads."""
        peer = self._context.socket(zmq.DEALER)
        peer.rcvhwm = 1
        peer.connect(self._address)
        peer.send(b"hello")
        self._addresses[peer] = self._router.recv_multipart()[0]
        return peer

    def close(self) -> None:
        """Have all peers go, and wait until they have: libzmq aborts where both ends close amid a message."""
        for peer in self._addresses:
            peer.close(linger=0)
        there = list(self._addresses.values())

        def gone() -> bool:
            there[:] = [address for address in there if sockets.send(self._router, [address, b""])]
            return not there

        eventually(gone, "the peers to be gone")

    def ask(self, peer: Socket, number: int, size: int = LARGE, owner: Peer = LOCAL) -> None:
        """Have a peer ask."""
        self.answers.ask(Query(self._addresses[peer], m.Replay(number, 1, 0, size), owner))

    def waiting(self) -> int:
        """Questions that wait."""
        return sum(len(waiting) for asker in self.answers._waiting.values() for waiting in asker.waiting.values())

    def turn(self, now: float = 0.0) -> list[int]:
        """The questions answered in one turn."""
        self._router.poll(0)  # as the loop does: ZeroMQ learns of who has gone when it is asked
        self.given.clear()
        self.answers.give(now)
        return list(self.given)

    def hear(self, peer: Socket) -> int:
        """What a peer hears next while the desk goes on: ZeroMQ lets go of an answer some time after it was read."""

        def has_more() -> bool:
            self.turn(next(self.clock))
            return bool(peer.poll(0))

        eventually(has_more, "the next answer")
        return read(peer)

    def _answer(self, question: Question, peer: Peer) -> Answer:
        self.given.append(question.id)
        assert isinstance(question, m.Replay)
        return m.Page(question.id, 1, 0), [bytes(question.limit), b"the last frame is small"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    context: zmq.Context[Socket] = zmq.Context()
    desk = Desk(context, tmp_path)
    yield desk
    desk.close()
    context.destroy(linger=0)


def read(peer: Socket) -> int:
    """What a peer hears next: the number of its question."""
    assert peer.poll(PATIENCE_MS)
    reply = _decode(peer.recv_multipart()[0])
    assert isinstance(reply, m.Page)
    return reply.id


def test_a_peer_that_does_not_read_has_a_few_answers_on_their_way_and_no_more(desk: Desk) -> None:
    deaf = desk.peer()
    for number in range(300):
        desk.ask(deaf, number)
    given = [number for turn in range(20) for number in desk.turn(float(turn))]
    assert given == list(range(len(given)))
    assert len(given) <= FEW

    # It reads after all, and is told everything in order.
    assert [desk.hear(deaf) for _ in range(20)] == list(range(20))


def test_while_somebody_does_not_read_the_loop_sleeps_longer_and_longer(desk: Desk) -> None:
    deaf = desk.peer()
    for number in range(300):
        desk.ask(deaf, number)
    pauses: list[float] = []
    while len(pauses) < 12:
        if desk.turn(10.0):  # there is room on the line still
            pauses.clear()
        else:
            pauses.append(desk.answers.due - 10.0)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LAST_LOOK)


def test_a_repetition_of_what_waits_or_is_on_its_way_is_dropped(desk: Desk) -> None:
    """A client that is not answered within seconds asks again, and again: a slow line would carry nothing else."""
    slow = desk.peer()
    taken = 0
    for number in range(8):
        desk.ask(slow, number)
    while given := desk.turn():
        taken += len(given)
    for _ in range(10):
        for number in range(8):
            desk.ask(slow, number)
        taken += len(desk.turn())
    assert taken <= FEW
    heard: list[int] = []
    while set(heard) < set(range(8)):
        heard.append(desk.hear(slow))
    assert len(heard) <= 8 + FEW


def test_in_one_turn_each_gets_its_share_and_the_rest_waits_its_turn(desk: Desk) -> None:
    greedy, modest = desk.peer(), desk.peer()
    size = TURN_BYTES // 3
    for number in range(6):
        desk.ask(greedy, number, size)
    desk.ask(modest, 100, size)
    assert desk.turn() == [0, 100, 1], "of the first as many as fit, but not before the other's"
    assert [desk.hear(greedy) for _ in range(6)] == list(range(6))
    assert read(modest) == 100


def test_many_small_answers_do_not_make_a_turn_long(desk: Desk) -> None:
    peers = [desk.peer() for _ in range(40)]
    for peer in peers:
        desk.ask(peer, 1, 10)
    assert len(desk.turn()) < 40
    assert desk.answers.due == 0.0
    desk.turn()
    assert [read(peer) for peer in peers] == [1] * 40


def test_what_one_peer_asks_in_vain_is_bounded_and_goes_with_it(desk: Desk) -> None:
    deaf = desk.peer()
    for number in range(3 * WAITING):
        desk.ask(deaf, number)
    assert desk.waiting() == WAITING
    while desk.turn():
        pass
    desk.close()

    def forgotten() -> bool:
        desk.turn()
        desk.answers.tidy()
        return not desk.answers._waiting and not desk.answers._askers

    eventually(forgotten, "the peer that has gone to be forgotten")
    assert desk.answers.due == math.inf


def test_the_peers_of_one_key_share_what_is_on_its_way(desk: Desk) -> None:
    """However many there are that do not read: another key's owner is answered at once."""
    deaf, anna = [desk.peer() for _ in range(60)], desk.peer()
    for peer in deaf:
        for number in range(3):
            desk.ask(peer, number, owner=MAD)
    given = 0
    while turn := desk.turn():
        given += len(turn)
    # The first of each goes into the buffers of its peer, so that it is not on its way any more.
    assert OWNER_ON_THE_WAY <= given <= OWNER_ON_THE_WAY + FEW * OWNER_ON_THE_WAY // ON_THE_WAY
    for number in range(5):
        desk.ask(anna, 100 + number, 10, owner=ANNA)
    assert [desk.hear(anna) for _ in range(5)] == [100, 101, 102, 103, 104]

    # They read after all, and all are told everything.
    heard: dict[Socket, list[int]] = {peer: [] for peer in deaf}

    def all_told() -> bool:
        desk.turn(next(desk.clock))
        for peer, numbers in heard.items():
            if peer.poll(0):
                numbers.append(read(peer))
        return all(len(numbers) == 3 for numbers in heard.values())

    eventually(all_told, "all to be told everything")
    assert all(numbers == [0, 1, 2] for numbers in heard.values())


def test_the_daemons_own_user_has_as_many_peers_as_it_likes(desk: Desk) -> None:
    peers = [desk.peer() for _ in range(60)]
    for peer in peers:
        desk.ask(peer, 1)
    while desk.turn():
        pass
    assert desk.waiting() == 0


def test_the_peers_of_one_key_share_turns(desk: Desk) -> None:
    """Many that read all that they are told: whoever has one gets as much as they do together."""
    crowd, anna = [desk.peer() for _ in range(40)], desk.peer()
    for peer in crowd:
        desk.ask(peer, 1, 10, owner=MAD)
    for number in range(8):
        desk.ask(anna, 100 + number, 10, owner=ANNA)
    assert [number >= 100 for number in desk.turn()][:4] == [False, True] * 2
    assert [desk.hear(anna) for _ in range(8)] == list(range(100, 108))


def test_what_the_peers_of_one_key_ask_in_vain_is_bounded(desk: Desk) -> None:
    deaf, anna = [desk.peer() for _ in range(20)], desk.peer()
    desk.ask(anna, 0, owner=ANNA)
    for peer in deaf:
        for number in range(WAITING):
            desk.ask(peer, number, owner=MAD)
    assert desk.waiting() == OWNER_WAITING + 1
    desk.answers.forget(lambda peer: peer == MAD)
    assert desk.waiting() == 1
    desk.ask(deaf[0], 1, owner=MAD)
    assert desk.waiting() == 2, "there is room again"
