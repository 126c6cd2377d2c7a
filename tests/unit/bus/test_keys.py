"""Keys: as text, in files, and the daemons that are known by them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.errors import CallerError, KeyFileError
from taskmaster.bus.keys import (
    DAEMON_KEY_ENVIRONMENT,
    KEY_ENVIRONMENT,
    Pinned,
    credentials_for,
    default_key_file,
    handed_over,
    new_pair,
    public_from_text,
    public_text,
    read_pair,
    write_pair,
)

FAR = "tcp://192.0.2.7:5570"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(KEY_ENVIRONMENT, raising=False)
    monkeypatch.delenv(DAEMON_KEY_ENVIRONMENT, raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path / "taskmaster"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 55), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_slip_in_a_key_is_noticed(key: bytes, position: int, letter: str) -> None:
    text = public_text(key)
    assert public_from_text(f" {text}\n") == key
    at = len("tm-public-") + position
    slip = text[:at] + letter + text[at + 1 :]
    if slip != text:
        with pytest.raises(KeyFileError, match="its checksum does not fit; copy it again"):
            public_from_text(slip)


def test_what_is_no_public_key_is_not_repeated() -> None:
    pair = new_pair()
    assert pair != new_pair()
    secret = f"tm-secret-{'a' * 56}"
    with pytest.raises(KeyFileError, match="this is a secret key; a secret key must never leave") as told:
        public_from_text(secret)
    assert secret not in str(told.value)
    for wrong in ("", "tm-public-", pair.text[:-1], pair.text.upper(), f"{pair.text}x"):
        with pytest.raises(KeyFileError, match="no public key: one is written tm-public- and 56"):
            public_from_text(wrong)
    assert "secret" not in repr(pair)


def test_a_pair_is_read_as_it_was_written_and_by_nobody_else(tmp_path: Path) -> None:
    pair, path = new_pair(), tmp_path / "new" / "key.toml"
    write_pair(path, pair, "anna")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_pair(path) == pair
    with pytest.raises(KeyFileError, match="is there already"):
        write_pair(path, new_pair(), "anna")
    assert read_pair(path) == pair
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"others may read the secret key .* \(mode 640\); .*chmod 600"):
        read_pair(path)


def test_a_key_file_that_is_wrong_says_how(tmp_path: Path) -> None:
    pair, other, path = new_pair(), new_pair(), tmp_path / "key.toml"
    write_pair(path, pair, "anna")
    good = path.read_text()
    for text, message in [
        ("= 3", "is not valid TOML"),
        (good + "more = 1\n", "is no key file"),
        ('public = "x"\n', "is no key file"),
        ("secret = 3\n", "secret has to be text, not int"),
        (good.replace(pair.text, other.text), "its public key does not belong to its secret one"),
        (f'secret = "{pair.text}"\n', "secret: this is a public key; here belongs the secret one"),
    ]:
        path.write_text(text)
        with pytest.raises(KeyFileError, match=message):
            read_pair(path)
    with pytest.raises(KeyFileError, match=r"there is no file .*; make one with: taskmaster keys new"):
        read_pair(tmp_path / "none")


def test_a_service_reads_what_its_manager_hands_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access list lets it, which shows as a mode that is a mistake anywhere else."""
    handed, own = tmp_path / "handed", tmp_path / "worker.key"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    handed.mkdir()
    pair = new_pair()
    for path in (handed / "worker.key", own):
        write_pair(path, pair, "rig")
        path.chmod(0o440)
    assert default_key_file() == handed / "worker.key"
    assert read_pair(default_key_file()) == pair
    with pytest.raises(KeyFileError, match="others may read"):
        read_pair(own)
    monkeypatch.setenv(KEY_ENVIRONMENT, str(own))
    assert default_key_file() == own, "what is named goes first"
    monkeypatch.delenv(KEY_ENVIRONMENT)
    (handed / "worker.key").chmod(0o600)
    (handed / "worker.key").write_text("none")
    assert handed_over("worker.key") is None
    assert default_key_file() == tmp_path / "taskmaster" / "key.toml"
    assert handed_over("daemon.key") is None


def test_a_daemon_is_known_by_one_key(home: Path) -> None:
    pinned, key, other = Pinned(), new_pair().public, new_pair().public
    assert pinned.get(FAR) is None
    pinned.pin(FAR, key)
    pinned.pin(FAR, key)
    pinned.pin("tcp://192.0.2.8:5570", other)
    assert (Pinned().get(FAR), Pinned().get("tcp://192.0.2.8:5570")) == (key, other)
    with pytest.raises(KeyFileError, match=r"is known by another key, tm-public-.* --replace"):
        pinned.pin(FAR, other)
    pinned.pin(FAR, other, replace=True)
    assert Pinned().get(FAR) == other
    assert [path.name for path in home.iterdir()] == ["daemons.toml"], "nothing is left behind"


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("tcp://LAB-7:5570", "tcp://lab-7:5570"),
        ("tcp://lab-7:5570/", "tcp://lab-7:5570"),
        ("tcp://lab-7:05570", "tcp://lab-7:5570"),
        ("tcp://[2001:DB8::0:1]:5570", "tcp://[2001:db8::1]:5570"),
    ],
)
def test_an_address_is_known_in_any_spelling(home: Path, typed: str, known: str) -> None:
    daemon = new_pair()
    assert Pinned().pin(typed, daemon.public) == known
    assert Pinned().get(known) == Pinned().get(typed) == daemon.public
    write_pair(home / "key.toml", new_pair(), "anna")
    for spelling in (typed, known):
        found = credentials_for(spelling)
        assert found is not None
        assert found.daemon == daemon.public
    with pytest.raises(KeyFileError, match="is known by another key"):
        Pinned().pin(known.replace("lab", "LAB").replace("db8", "DB8"), new_pair().public)


@pytest.mark.parametrize("wrong", ["tcp://lab-7", "tcp://lab-7:", "tcp://:5570", "tcp://lab-7:70000", "tcp://a b:1"])
def test_what_is_no_address_is_neither_known_nor_talked_to(home: Path, wrong: str) -> None:
    for attempt in (lambda: Pinned().pin(wrong, new_pair().public), lambda: credentials_for(wrong)):
        with pytest.raises(CallerError, match=r"is no address of a daemon; write tcp://HOST:PORT"):
            attempt()
    assert not home.exists()


def test_two_keys_of_one_daemon_are_a_mistake(home: Path) -> None:
    one, other = new_pair().text, new_pair().text
    home.mkdir()
    (home / "daemons.toml").write_text(f'"tcp://lab-7:5570" = "{one}"\n"tcp://LAB-7:5570" = "{other}"\n')
    with pytest.raises(KeyFileError, match=r"has two keys of the daemon at tcp://lab-7:5570"):
        credentials_for("tcp://lab-7:5570")


NEAR = ["tcp://127.0.0.1:5570", "tcp://127.8.9.1:5570", "tcp://localhost:5570", "tcp://[::1]:5570"]
#: The last two ZeroMQ takes for addresses of another machine that are reached from this one's.
OTHERS = [FAR, "tcp://lab-7:5570", "tcp://[2001:db8::1]:5570", "tcp://0.0.0.0:5570", "tcp://localhost.example:5570"]
OTHERS += ["tcp://127.0.0.1:0;192.0.2.7:5570", "tcp://lo;192.0.2.7:5570"]


@pytest.mark.parametrize("address", NEAR)
def test_on_one_machine_no_key_is_needed(address: str) -> None:
    assert credentials_for(address) is None


@pytest.mark.parametrize("address", OTHERS)
@pytest.mark.parametrize("own", [True, False], ids=["with a key of one's own", "without"])
def test_nobody_is_talked_to_in_the_clear_on_another_machine(home: Path, address: str, own: bool) -> None:
    if own:
        write_pair(home / "key.toml", new_pair(), "anna")
    remedy = f"taskmaster keys pin {address} tm-public-…, or have it in $TASKMASTER_DAEMON_KEY"
    with pytest.raises(KeyFileError, match=re.escape(remedy)):
        credentials_for(address)


def test_who_talks_to_which_daemon_how(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, daemon = new_pair(), new_pair()
    assert credentials_for("ipc:///run/taskmaster/control", "/no/such/file") is None, "its file's mode is its lock"
    with pytest.raises(
        KeyFileError, match=r"is not known by its key.*\(taskmaster keys show --daemon.*keys pin tcp://192"
    ):
        credentials_for(FAR, own)
    with pytest.raises(KeyFileError, match=r"is not known by its key"):
        credentials_for("tcp://127.0.0.1:5570", own)
    Pinned().pin(FAR, daemon.public)
    with pytest.raises(KeyFileError, match=r"there is no file .*key\.toml; make one"):
        credentials_for(FAR)
    write_pair(home / "key.toml", own, "anna")
    found = credentials_for(FAR)
    assert found is not None
    assert (found.own, found.daemon) == (own, daemon.public)

    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "elsewhere"))
    with pytest.raises(KeyFileError, match=r"is not known by its key"):
        credentials_for(FAR)
    for name, value in found.environment().items():
        monkeypatch.setitem(os.environ, name, value)
    assert credentials_for(FAR) == found, "as a process that was started has it"
    assert credentials_for(FAR, daemon_key=public_text(own.public)) != found


def test_a_key_of_a_daemon_that_is_none_is_said_to_be_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyFileError, match=r"^daemon_key: this is no public key"):
        credentials_for(FAR, daemon_key="tm-public-abc")
    monkeypatch.setenv(DAEMON_KEY_ENVIRONMENT, "tm-public-abc")
    with pytest.raises(KeyFileError, match=r"^\$TASKMASTER_DAEMON_KEY: this is no public key"):
        credentials_for(FAR)
