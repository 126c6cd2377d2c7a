"""Keys: as text, in files, and the daemons that are known by them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.errors import KeyFileError
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


def test_who_talks_to_which_daemon_how(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, daemon = new_pair(), new_pair()
    assert credentials_for("ipc:///run/taskmaster/control", "/no/such/file") is None, "its file's mode is its lock"
    assert credentials_for(FAR) is None, "a daemon that no key is known of"
    with pytest.raises(KeyFileError, match=r"is not known by its key; .*keys pin tcp://192"):
        credentials_for(FAR, own)
    Pinned().pin(FAR, daemon.public)
    with pytest.raises(KeyFileError, match=r"there is no file .*key\.toml; make one"):
        credentials_for(FAR)
    write_pair(home / "key.toml", own, "anna")
    found = credentials_for(FAR)
    assert found is not None
    assert (found.own, found.daemon) == (own, daemon.public)
    assert credentials_for("tcp://192.0.2.9:5570") is None

    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "elsewhere"))
    assert credentials_for(FAR) is None
    for name, value in found.environment().items():
        monkeypatch.setitem(os.environ, name, value)
    assert credentials_for(FAR) == found, "as a process that was started has it"
    assert credentials_for(FAR, daemon_key=public_text(own.public)) != found
