"""``taskmaster keys``, and a daemon set up by what it says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from helpers.circle import bound_at
from helpers.cli import Program
from helpers.daemon import Daemon, function
from helpers.places import short_folder

from taskmaster.bus.keys import fingerprint, public_from_text
from taskmaster.cli import connecting

CONFIG = """\
[daemon]
name = "lab"
state = "state"
keys = "keys.toml"
listen = "tcp://127.0.0.1:*"
[masters.square]
driver = "process"
function = "work:square_or_raise"
"""


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Typed by somebody who has no keys yet, in a folder with a configuration."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in ("TASKMASTER", "TASKMASTER_KEY", "TASKMASTER_DAEMON_KEY", "TASKMASTER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taskmaster.toml").write_text(CONFIG)
    return Program(capsys, monkeypatch)


def test_a_pair_is_made_shown_and_known(typed: Program, tmp_path: Path) -> None:
    said = typed("keys", "new", "anna")
    assert said.status == 0
    assert "taskmaster keys allow anna tm-public-" in said.out
    assert (tmp_path / "home" / "taskmaster" / "key.toml").stat().st_mode & 0o777 == 0o600
    own = typed("keys", "show").out.strip()
    assert own in said.out
    assert typed("keys", "new", "anna").err.startswith("taskmaster: ")
    assert "is there already" in typed("keys", "new", "anna").err

    daemon = typed("keys", "new", "--daemon").out.split()[-1]
    assert typed("keys", "show", "--daemon").out.strip() == daemon
    assert typed("keys", "pin", "tcp://lab-7:5570", daemon).status == 0
    again = typed("keys", "pin", "tcp://lab-7:5570", own)
    assert again.status == 1
    assert "is known by another key" in again.err
    assert typed("keys", "pin", "tcp://lab-7:5570", own, "--replace").status == 0


def test_keys_are_allowed_changed_and_revoked(typed: Program) -> None:
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    assert "nobody may come" in typed("keys", "list").out
    said = typed("keys", "allow", "anna", own, "--role", "learner", "--master", "square", "--expires", "2099-01-31")
    assert "anna may come as learner, for square, until 2099-01-31 00:00" in said.out
    typed("keys", "allow", "anna", "--role", "operator")
    typed("keys", "new", "rig", "--role", "worker")
    [anna, rig] = json.loads(typed("keys", "list", "--json").out)
    assert (anna["role"], anna["masters"], anna["state"], anna["key"]) == ("operator", ["square"], "in force", own)
    assert (rig["name"], rig["role"], rig["masters"]) == ("rig", "worker", None)
    assert anna["fingerprint"] == fingerprint(public_from_text(own)), "by which it is on record"
    assert Path("rig.key").stat().st_mode & 0o777 == 0o600
    assert "anna may come no more" in typed("keys", "revoke", "anna").out
    assert json.loads(typed("keys", "list", "--json").out)[0]["state"] == "revoked"
    typed("keys", "allow", "anna", own, "--role", "observer")
    assert json.loads(typed("keys", "list", "--json").out)[0]["state"] == "in force", "with its new role"


def test_what_was_bounded_can_be_unbounded_again(typed: Program) -> None:
    typed(
        "keys", "new", "rig", "--role", "learner", "--master", "square", "--code", "square", "--expires", "2099-01-31"
    )

    def rig() -> tuple[object, ...]:
        [grant] = json.loads(typed("keys", "list", "--json").out)
        return grant["masters"], grant["code"], grant["expires"]

    assert rig()[:2] == (["square"], ["square"])
    assert "until 2099-01-31" in typed("keys", "allow", "rig", "--role", "operator").out, "what is not said stays"
    assert (
        "rig may come as operator, with code for square\n"
        in typed("keys", "allow", "rig", "--all-masters", "--expires", "never").out
    )
    assert rig() == (None, ["square"], None)
    assert typed("keys", "allow", "rig", "--master", "square", "--no-code").status == 0
    assert rig() == (["square"], [], None)


def test_what_somebody_may_is_shown(typed: Program) -> None:
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    typed("keys", "allow", "anna", own, "--role", "learner", "--master", "square")
    assert typed("keys", "show", "anna").out == f"{own}\nin force: learner, for square\n"
    typed("keys", "revoke", "anna")
    assert typed("keys", "show", "anna").out == f"{own}\nrevoked: learner, for square\n"
    assert "there is no key 'ana'; did you mean 'anna'?" in typed("keys", "show", "ana").err


def test_a_pair_that_is_not_allowed_is_not_left_behind(typed: Program) -> None:
    words = ("keys", "new", "rig", "--role", "learner", "--master", "square")
    refused = typed(*words, "--code", "other")
    assert refused.status == 3
    assert "rig.code: 'other' is not among its masters" in refused.err
    assert not Path("rig.key").exists()
    assert typed(*words).status == 0


def test_a_revoked_key_comes_back_only_where_it_is_named(typed: Program) -> None:
    """It was revoked for a reason, and who changes what its owner may do need not have thought of that."""
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    typed("keys", "allow", "anna", own, "--role", "learner")
    typed("keys", "revoke", "anna")
    refused = typed("keys", "allow", "anna", "--role", "operator")
    assert refused.status == 2
    assert "the key of 'anna' was revoked: give the public key by which 'anna' is to come from now on" in refused.err
    assert json.loads(typed("keys", "list", "--json").out)[0]["state"] == "revoked"
    assert typed("keys", "allow", "anna", own).status == 0
    assert json.loads(typed("keys", "list", "--json").out)[0]["state"] == "in force"


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("keys new", 2, "say whose key it is to be: taskmaster keys new NAME (or --daemon)"),
        ("keys new local", 2, "'local' cannot name a key"),
        ("keys allow bob --role admin", 2, "'bob' is not known yet: give the public key, too"),
        ("keys allow bob tm-public-abc --role admin", 1, "this is no public key: one is written tm-public- and 56"),
        ("keys revoke bob", 3, "keys.toml: there is no such file"),
        ("keys pin ipc:///x tm-public-abc", 2, "is not reached over the network; write tcp://HOST:PORT"),
        ("keys show", 1, "make one with: taskmaster keys new"),
        ("keys list --config none.toml", 3, "none.toml: there is no such file"),
        ("keys show bob", 3, "keys.toml: there is no such file"),
        ("keys show bob --daemon", 2, "leave --daemon and --file out"),
        ("keys alow", 2, "there is no command 'alow'; did you mean 'allow'?"),
        ("keys new anna --master square", 2, "what the owner of a key may do the daemon's operator says"),
        ("keys new anna --expires 2099-01-31", 2, "on the daemon's machine, say --role, too"),
        ("keys new --daemon anna", 2, "the daemon's own key has no name and no role"),
        ("keys new --daemon --role admin", 2, "the daemon's own key has no name and no role"),
        ("keys allow bob --master square --all-masters", 2, "--master and --all-masters contradict each other"),
        ("keys allow bob --code square --no-code", 2, "as --code and --no-code do"),
        ("keys allow bob --expires soon", 2, "or never, not 'soon'"),
    ],
)
def test_a_slip_is_named_with_its_remedy(typed: Program, line: str, status: int, said: str) -> None:
    answer = typed(*shlex.split(line))
    assert answer.status == status
    assert said in answer.err


def test_a_configuration_without_keys_says_what_to_add(typed: Program) -> None:
    Path("taskmaster.toml").write_text(CONFIG.replace('keys = "keys.toml"\n', ""))
    answer = typed("keys", "list")
    assert answer.status == 3
    assert 'nobody comes over the network: add keys = "keys.toml" to [daemon]' in answer.err


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def networked(folder: Path) -> Daemon:
    """A daemon with the keys that lie here, at ports of its own choice."""
    anywhere = dict.fromkeys(("listen", "results", "workers"), "tcp://127.0.0.1:*")
    keys = str(Path("keys.toml").absolute())
    return Daemon(folder / "d", {"square": function("square_or_raise", parameters={"x": {}})}, keys=keys, **anywhere)


def test_two_machines_are_set_up_in_five_commands(typed: Program, folder: Path) -> None:
    """As docs/security.md has it; the daemon's address is known when it has started."""
    typed("keys", "new", "--daemon")
    typed("keys", "new", "anna")
    typed("keys", "allow", "anna", typed("keys", "show").out.strip(), "--role", "learner")
    daemon = networked(folder)
    try:
        daemon.start()
        address = bound_at(daemon)
        typed("keys", "pin", address, typed("keys", "show", "--daemon").out.strip())
        said = typed("submit", "square", "x=3", "--wait", "--address", address)
        assert said.status == 0, said.err
        assert "9" in said.out
        refused = typed("pause", "square", "--address", address)
        assert "key 'anna' (learner) may not pause" in refused.err
    finally:
        daemon.close()


@pytest.mark.parametrize("line", ["worker {} svm -n 1", "status --address {}"])
def test_who_has_no_key_of_a_daemon_elsewhere_sends_it_nothing(typed: Program, line: str) -> None:
    """By an address that is not of loopback, and leads to this machine all the same."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as somebody:
        somebody.linger = 0
        port = somebody.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://0.0.0.0:{port}"
        said = typed(*shlex.split(line.format(address)))
        assert said.status == 1
        assert f"taskmaster: the daemon at {address} is not known by its key" in said.err
        assert f"taskmaster keys pin {address} tm-public-…" in said.err
        assert not somebody.poll(200), "it was talked to in the clear"


def test_what_may_not_be_as_it_was_meant_is_remarked_on(typed: Program) -> None:
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    said = typed("keys", "allow", "anna", own, "--role", "learner", "--master", "squre", "--expires", "2020-01-31")
    assert said.status == 0
    assert "taskmaster: there is no Master 'squre' in the configuration; did you mean 'square'?" in said.err
    assert "taskmaster: 2020-01-31 00:00 is in the past: anna may not come at all" in said.err
    assert not typed("keys", "allow", "anna", "--master", "square", "--expires", "2099-01-31").err
    said = typed("keys", "new", "rig", "--role", "worker", "--code", "nosuchmaster")
    assert "there is no Master 'nosuchmaster'" in said.err


def test_a_name_whose_key_is_revoked_gets_another_one_as_is_said(typed: Program) -> None:
    typed("keys", "new", "anna", "--role", "worker")
    assert "taskmaster keys revoke anna, or" in typed("keys", "new", "anna", "--role", "worker").err
    typed("keys", "revoke", "anna")
    Path("anna.key").unlink()
    said = typed("keys", "new", "anna", "--role", "worker").err
    assert "revoke anna" not in said
    assert "taskmaster keys new anna --file anna.key, then, with what that prints, taskmaster keys allow anna" in said
    assert "--role worker" in said
    made = typed("keys", "new", "anna", "--file", "anna.key").out
    public = next(word for word in made.split() if word.startswith("tm-public-"))
    assert typed("keys", "allow", "anna", public, "--role", "worker").status == 0
    assert json.loads(typed("keys", "list", "--json").out)[0]["state"] == "in force"


def test_a_configuration_is_right_when_its_keys_are(typed: Program) -> None:
    """What is wrong with them would end the daemon, at once or when it is started."""

    def complaint() -> str:
        said = typed("check", "taskmaster.toml")
        assert said.status == 3
        assert "is right" not in said.out
        return said.err

    Path("work.py").write_text("def square_or_raise(x):\n    return x * x\n")
    Path("taskmaster.toml").write_text(CONFIG.replace("[masters.square]", "[masters.square]\npath = ['.']"))
    assert "taskmaster.toml:4: daemon.keys:" in complaint()
    assert "keys.toml: there is no such file; `taskmaster keys allow` makes it" in complaint()
    assert "daemon.key; make one with: taskmaster keys new --daemon" in complaint()
    typed("keys", "new", "--daemon")
    typed("keys", "new", "anna", "--role", "learner")
    said = typed("check", "taskmaster.toml")
    assert said.status == 0, said.err
    Path("daemon.key").chmod(0o644)
    assert "others may read the secret key in" in complaint()
    Path("daemon.key").chmod(0o600)
    Path("keys.toml").chmod(0o666)
    assert "chmod go-w " in complaint()
    Path("keys.toml").chmod(0o644)
    Path("keys.toml").write_text("[anna]\n")
    assert "keys.toml:1: anna.key: is missing" in complaint()
    [*_, mistake] = json.loads(typed("check", "taskmaster.toml", "--json").out)["mistakes"]
    assert (mistake["key"], mistake["line"]) == ("daemon.keys", 4)


def test_who_is_not_let_in_is_told_why(typed: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
    typed("keys", "new", "--daemon")
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    typed("keys", "new", "bob", "--role", "learner")
    daemon = networked(folder)
    try:
        daemon.start()
        address = bound_at(daemon)
        said = typed("status", "--address", address)
        assert said.status == 4
        assert f"whoever listens at {address} does not talk in the clear" in said.err
        typed("keys", "pin", address, typed("keys", "show", "--daemon").out.strip())
        for line in ("status --address {}", "worker {} square -n 1"):
            said = typed(*shlex.split(line.format(address)))
            assert said.status == 4
            assert f"the daemon at {address} does not let in your key" in said.err
            assert f"taskmaster keys allow NAME {own} --role ROLE" in said.err
        typed("keys", "pin", address, own, "--replace")
        said = typed("status", "--address", address)
        assert said.status == 4
        assert f"whoever listens at {address} is not the daemon that you know by {own}" in said.err
    finally:
        daemon.close()


def test_one_without_keys_is_not_the_daemon_that_was_meant(typed: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
    typed("keys", "new", "anna")
    own = typed("keys", "show").out.strip()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as somebody:
        somebody.linger = 0
        address = f"tcp://127.0.0.1:{somebody.bind_to_random_port('tcp://127.0.0.1')}"
        typed("keys", "pin", address, own)
        said = typed("status", "--address", address)
    assert said.status == 4
    assert f"whoever listens at {address} is not the daemon that you know" in said.err
