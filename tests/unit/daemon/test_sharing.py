"""Who may connect to the daemon's Unix sockets: modes and groups of their files."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.places import short_folder

from taskmaster.bus.errors import ConfigError
from taskmaster.daemon.sharing import sharing

OWN = grp.getgrgid(os.getegid()).gr_name
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be of any group")


@pytest.fixture
def place() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(folder: Path, stack: ExitStack, mode: int) -> Path:
    """A socket in a folder of this mode, bound as the daemon binds."""
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    path = folder / "control"
    umask = os.umask(0o077)
    try:
        stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
    finally:
        os.umask(umask)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize(("folder", "wanted"), [(0o755, 0o600), (0o700, 0o600), (0o2755, 0o660)])
def test_without_a_group_the_folder_says_whose_they_are(
    folder: int, wanted: int, place: Path, stack: ExitStack
) -> None:
    path = listen(place / "run", stack, folder)
    sharing(None, place).apply(f"ipc://{path}")
    assert mode(path) == wanted
    sharing(None, place).apply("tcp://127.0.0.1:5570")


def test_a_group_comes_through_the_state_folder_and_sees_nothing_else_there(place: Path, stack: ExitStack) -> None:
    state = place / "state"
    path = listen(state, stack, 0o700)
    sharing(OWN, state).apply(f"ipc://{path}")
    assert (mode(path), mode(state)) == (0o660, 0o710)
    assert (path.stat().st_gid, state.stat().st_gid) == (os.getegid(), os.getegid())
    # And no more when it is named no more.
    sharing(None, state).apply(f"ipc://{path}")
    assert mode(path) == 0o600


def test_a_group_that_cannot_come_in_is_said(place: Path, stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    place.chmod(0o755)
    folder = place / "above" / "run"
    folder.parent.mkdir()
    path = listen(folder, stack, 0o755)
    for closed in (folder, folder.parent):
        caplog.clear()
        os.chown(closed, -1, other().gr_gid if os.geteuid() == 0 else -1)
        closed.chmod(0o700)
        sharing(OWN, place / "state").apply(f"ipc://{path}")
        assert f"members of the group '{OWN}' cannot enter {closed}" in caplog.text
        assert mode(closed) == 0o700, "it is not the daemon's to open"
        closed.chmod(0o755)
    caplog.clear()
    sharing(OWN, place / "state").apply(f"ipc://{path}")
    assert caplog.text == ""


def other() -> grp.struct_group:
    """A group that this process is not in."""
    return next(group for group in grp.getgrall() if group.gr_gid not in (os.getegid(), 0, *os.getgroups()))


def test_a_group_that_is_not_there_is_said(place: Path) -> None:
    with pytest.raises(ConfigError, match="this machine has no group 'labb'; make it: groupadd labb"):
        sharing("labb", place)


@root_only
def test_what_a_socket_unit_has_made_is_left_to_it(place: Path, stack: ExitStack) -> None:
    path = listen(place / "run", stack, 0o2755)
    path.chmod(0o666)
    os.chown(path, 12345, 12345)
    sharing(None, place).apply(f"ipc://{path}")
    assert mode(path) == 0o666


@root_only
def test_who_is_no_member_cannot_give_it_away(place: Path, stack: ExitStack) -> None:
    strangers = other().gr_name
    path = listen(place / "run", stack, 0o755)
    for entry in (place, place / "run", path):
        os.chown(entry, 12345, 12345)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.setgroups([])
        os.setgid(12345)
        os.setuid(12345)
        try:
            sharing(strangers, place).apply(f"ipc://{path}")
        except ConfigError as error:
            os._exit(0 if f"cannot be given to the group '{strangers}'" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
