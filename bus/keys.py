"""Keys: who somebody is on the network. CurveZMQ's pairs of keys, how they are written, and where they lie.

A key is written as text that says what it is and ends in a checksum, so that neither a slip of the hand nor a secret
key in the place of a public one goes unnoticed::

    tm-public-kq7d…            tm-secret-x2ms…

A client has a pair of its own in a file that only its user may read, and knows the daemons that it has met by their
public keys (it *pins* them): a daemon that shows another one is not talked to, and none on another machine that is not
known.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from taskmaster.bus.errors import CallerError, KeyFileError

__all__ = [
    "DAEMON_KEY",
    "DAEMON_KEY_ENVIRONMENT",
    "KEY_ENVIRONMENT",
    "Credentials",
    "KeyPair",
    "Pinned",
    "credentials_for",
    "default_key_file",
    "fingerprint",
    "handed_over",
    "network_address",
    "new_pair",
    "public_from_text",
    "public_text",
    "read_pair",
    "write_pair",
]

#: The environment variable that names a client's or worker's key file.
KEY_ENVIRONMENT = "TASKMASTER_KEY"
#: The same of the daemon's public key, where none is pinned for the address.
DAEMON_KEY_ENVIRONMENT = "TASKMASTER_DAEMON_KEY"

_KEY_BYTES = 32
_CHECK_BYTES = 3
#: Characters of a fingerprint: 64 bits.
_FINGERPRINT = 16
#: An address of the network, as ZeroMQ takes it.
_ADDRESS = re.compile(r"tcp://(?P<host>\[[0-9A-Za-z:.%]+\]|[^\s/\[\]]+):(?P<port>\d{1,5})/?")
_TEXT = re.compile(r"tm-(public|secret)-([a-z2-7]{56})")
#: What systemd calls the folder of files that it hands to a service, and the daemon's and workers' own pairs in it.
_HANDED_OVER = "CREDENTIALS_DIRECTORY"
DAEMON_KEY, _WORKER_KEY = "daemon.key", "worker.key"
_NONE = "none"

#: Others may not read a secret key: not even the group's.
_PRIVATE_MODE = 0o600

_HEADER = """\
# The {what} key of {owner}. Whoever has the secret one is {owner}: leave it where it is, and readable by nobody else.
# Others are given the public one.
"""


@dataclass(frozen=True)
class KeyPair:
    """A public key, 32 bytes, and the secret one that belongs to it, which is never shown."""

    public: bytes
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The public key as it is written."""
        return public_text(self.public)


@dataclass(frozen=True)
class Credentials:
    """What it takes to talk to a daemon over the network: one's own pair, and the daemon's public key."""

    own: KeyPair
    daemon: bytes
    #: where the own pair is
    file: Path | None = None

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket that is yet to connect encrypt, show the own key, and accept that daemon only."""
        socket.curve_publickey = z85.encode(self.own.public)
        socket.curve_secretkey = z85.encode(self.own.secret)
        socket.curve_serverkey = z85.encode(self.daemon)

    def environment(self) -> dict[str, str]:
        """Variables by which a program that is started has the same from :func:`credentials_for`."""
        own = {} if self.file is None else {KEY_ENVIRONMENT: str(self.file.absolute())}
        return {**own, DAEMON_KEY_ENVIRONMENT: public_text(self.daemon)}


def new_pair() -> KeyPair:
    """A pair that nobody else has."""
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public), z85.decode(secret))


# -- as text ----------------------------------------------------------------------------------------------------------


def public_text(key: bytes) -> str:
    """How a public key of 32 bytes is written."""
    return _text("public", key)


def fingerprint(key: bytes) -> str:
    """What a public key is told from others by, where it is not to be read itself: in the journal, and its backups."""
    return hashlib.sha256(key).hexdigest()[:_FINGERPRINT]


def public_from_text(text: str) -> bytes:
    """The 32 bytes of a public key. Raises KeyFileError that says what is wrong with ``text``, and never repeats it."""
    return _from_text("public", text)


def _text(kind: str, key: bytes) -> str:
    return f"tm-{kind}-{base64.b32encode(key + _check(kind, key)).decode().lower()}"


def _check(kind: str, key: bytes) -> bytes:
    return hashlib.sha256(f"tm-{kind}-".encode() + key).digest()[:_CHECK_BYTES]


def _from_text(kind: str, text: str) -> bytes:
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise KeyFileError(f"this is no {kind} key: one is written tm-{kind}- and 56 letters and digits")
    if found[1] != kind:
        remedy = (
            "a secret key must never leave the machine that it was made on: if anybody has seen this one, make a new "
            "pair; here belongs the public one (taskmaster keys show)"
            if kind == "public"
            else "here belongs the secret one, as taskmaster keys new wrote it"
        )
        raise KeyFileError(f"this is a {found[1]} key; {remedy}")
    try:
        content = base64.b32decode(found[2].upper())
    except binascii.Error:
        raise KeyFileError(f"this {kind} key is not complete; copy it again") from None
    key, check = content[:_KEY_BYTES], content[_KEY_BYTES:]
    if check != _check(kind, key):
        raise KeyFileError(f"this {kind} key has a slip in it: its checksum does not fit; copy it again")
    return key


# -- in files ---------------------------------------------------------------------------------------------------------


def default_key_file() -> Path:
    """A client's own pair.

    ``$TASKMASTER_KEY``; else what a service manager has handed to workers; else ``key.toml`` in the user's
    configuration folder.
    """
    given = os.environ.get(KEY_ENVIRONMENT)
    return Path(given) if given else handed_over(_WORKER_KEY) or _folder() / "key.toml"


def handed_over(name: str) -> Path | None:
    """The file of this name that systemd has handed to this service (LoadCredential=); None where there is none.

    So a service reads a key that is root's. Where there is none, units have the word ``none`` handed over in its place.
    """
    folder = os.environ.get(_HANDED_OVER)
    path = Path(folder or "/nowhere", name)
    return path if folder and path.is_file() and path.stat().st_size > len(_NONE) else None


def _folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "taskmaster"


def write_pair(path: Path, pair: KeyPair, owner: str) -> None:
    """Write a pair to a new file that only its user may read. Raises KeyFileError where there is one already."""
    text = _HEADER.format(what="own", owner=owner) + (
        f'public = "{pair.text}"\nsecret = "{_text("secret", pair.secret)}"\n'
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_MODE)
    except FileExistsError:
        raise KeyFileError(
            f"{path} is there already, and whoever knows its key would not know another; move it away for a new pair"
        ) from None
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be written: {error.strerror}") from error
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_pair(path: Path, maker: str = "taskmaster keys new") -> KeyPair:
    """The pair in a file, as the command ``maker`` writes it.

    Raises KeyFileError where there is none, where others could read it, or where it is wrong.
    """
    table = _table(path, private=True, missing=f"make one with: {maker}")
    unknown = table.keys() - {"public", "secret"}
    if unknown or "secret" not in table:
        raise KeyFileError(f"{path} is no key file: it has to have the keys public and secret, and nothing else")
    secret = _key(path, "secret", table["secret"])
    public = z85.decode(zmq.curve_public(z85.encode(secret)))
    if "public" in table and _key(path, "public", table["public"]) != public:
        raise KeyFileError(f"{path}: its public key does not belong to its secret one; make a new pair")
    return KeyPair(public, secret)


def _table(path: Path, *, private: bool, missing: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            # What systemd hands to a service only that can read, by an access list, which shows as the group's mode.
            if private and mode & 0o077 and handed_over(path.name) != path:
                raise KeyFileError(
                    f"others may read the secret key in {path} (mode {mode:o}); if nobody can have: chmod 600 {path}"
                )
            return tomllib.load(file)
    except FileNotFoundError:
        raise KeyFileError(f"there is no file {path}; {missing}") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is not valid TOML: {error}") from None


def _key(path: Path, kind: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise KeyFileError(f"{path}: {kind} has to be text, not {type(text).__name__}")
    try:
        return _from_text(kind, text)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {kind}: {error}") from None


# -- the daemons that one has met -------------------------------------------------------------------------------------


def network_address(text: str) -> str:
    """A tcp address in the one spelling by which its daemon is known. Raises CallerError where it is none."""
    known = _spelt(text)
    if known is None:
        raise CallerError(f"{text!r} is no address of a daemon; write tcp://HOST:PORT or ipc:///PATH")
    return known


def _spelt(text: str) -> str | None:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        return None
    host = match["host"].lower()
    with contextlib.suppress(ValueError):  # it is a name
        number = ipaddress.ip_address(host.strip("[]"))
        host = f"[{number}]" if number.version == 6 else str(number)
    return f"tcp://{host}:{int(match['port'])}"


def _is_loopback(address: str) -> bool:
    """Whether what is sent to an address in its one spelling stays on this machine."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name: that of this machine, too, somebody else may have the say of


class Pinned:
    """The public keys of daemons by their addresses, in a file of the user's."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _folder() / "daemons.toml"

    def read(self) -> Mapping[str, bytes]:
        """All of them. Raises KeyFileError."""
        if not self.path.exists():
            return {}
        known: dict[str, bytes] = {}
        for address, text in _table(self.path, private=False, missing="").items():
            key, where = _key(self.path, "public", text), _spelt(address) or address
            if known.setdefault(where, key) != key:
                raise KeyFileError(f"{self.path} has two keys of the daemon at {where}: leave the one that is right")
        return known

    def get(self, address: str) -> bytes | None:
        """The key of the daemon at this address, if it is known."""
        return self.read().get(_spelt(address) or address)

    def pin(self, address: str, key: bytes, *, replace: bool = False) -> str:
        """Know the daemon at this address by its key; returns the spelling of it that is kept.

        Raises CallerError where it is no address, KeyFileError where that daemon is known by another key.
        """
        address = network_address(address)
        known = dict(self.read())
        if known.get(address, key) != key and not replace:
            raise KeyFileError(
                f"the daemon at {address} is known by another key, {public_text(known[address])} ({self.path}); if it "
                "was given a new one on purpose: --replace"
            )
        known[address] = key
        lines = [f'"{where}" = "{public_text(pinned)}"\n' for where, pinned in sorted(known.items())]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text("# Daemons that are known, by their public keys.\n" + "".join(lines), encoding="ascii")
            temporary.replace(self.path)
        except OSError as error:
            raise KeyFileError(f"{self.path} cannot be written: {error.strerror}") from error
        return address


def credentials_for(
    address: str, key: str | Path | KeyPair | None = None, daemon_key: str | bytes | None = None
) -> Credentials | None:
    """What to show the daemon at ``address``; None where it is talked to in the clear: on this machine alone.

    ``key`` is one's own pair or its file, by default :func:`default_key_file`; ``daemon_key`` the daemon's public key,
    by default what is pinned for this address, else ``$TASKMASTER_DAEMON_KEY``. Raises KeyFileError where one is there
    and the other is missing, or the address is on another machine and the daemon's is missing; CallerError where that
    is no address.
    """
    if not str(address).startswith("tcp://"):
        return None  # a Unix socket, or no address at all, as whoever connects will find
    where = network_address(address)
    known = _daemon_key(where, daemon_key)
    if known is None:
        if key is None and _is_loopback(where):
            return None
        raise KeyFileError(
            f"the daemon at {where} is not known by its key, and whoever answers there could be anybody; ask its "
            "operator for the key (taskmaster keys show --daemon, on that machine), then: taskmaster keys pin "
            f"{where} tm-public-…, or have it in ${DAEMON_KEY_ENVIRONMENT}"
        )
    if isinstance(key, KeyPair):
        return Credentials(key, known)
    file = Path(key) if key is not None else default_key_file()
    return Credentials(read_pair(file), known, file)


def _daemon_key(address: str, given: str | bytes | None) -> bytes | None:
    """The public key of the daemon at an address in its one spelling, if anything says it."""
    if isinstance(given, bytes):
        return given
    if given is not None:
        return _public_from("daemon_key", given)
    pinned = Pinned().get(address)
    if pinned is None and (text := os.environ.get(DAEMON_KEY_ENVIRONMENT)):
        return _public_from(f"${DAEMON_KEY_ENVIRONMENT}", text)
    return pinned


def _public_from(where: str, text: str) -> bytes:
    try:
        return public_from_text(text)
    except KeyFileError as error:
        raise KeyFileError(f"{where}: {error}") from None
