"""Who may use the service: members of a group on its machine, and owners of keys over the network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.booted import PYTHON, Machine
from helpers.installed import Installed, to_be_typed
from helpers.load import master

Install = Callable[..., Installed]

SQUARE = {"square": master(workers=1)}
PORT = 5570
ADDRESS = f"tcp://127.0.0.1:{PORT}"
CONFIG = "/etc/taskmaster/taskmaster.toml"


@pytest.fixture(scope="module", autouse=True)
def people(machine: Machine) -> None:
    """Ada is in the laboratory, eve uses the daemon, bob does neither."""
    machine.run("groupadd", "lab")
    machine.run("groupadd", "--system", "--force", "taskmaster-users")
    machine.add_user("ada", "--groups", "lab")
    machine.add_user("eve", "--groups", "taskmaster-users")
    machine.add_user("bob")


def who_may(service: Installed) -> set[str]:
    """Whom the daemon answers by its Unix socket."""
    return {
        name
        for name in ("ada", "eve", "bob")
        if service.machine.taskmaster("status", "--address", service.address, user=name, check=False).returncode == 0
    }


def by_key(machine: Machine, name: str, known: str, *words: str, check: bool = True) -> tuple[int, str]:
    """What a command ends with and says of somebody who shows their key over the network, and knows the daemon's."""
    around = (f"TASKMASTER_KEY=/etc/taskmaster/{name}.key", f"TASKMASTER_DAEMON_KEY={known}")
    done = machine.run("env", *around, PYTHON, "-m", "taskmaster", *words, "--address", ADDRESS, check=check)
    return done.returncode, done.stdout


# -- a group ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "west"])
def test_a_group_that_the_configuration_names_may_use_it(name: str, install: Install, machine: Machine) -> None:
    service = install(SQUARE, name=name, group="lab")
    assert any(line.startswith("usermod -aG lab ") for line in to_be_typed(service.said))
    service.start()
    assert who_may(service) == {"ada"}
    # Without one it is the users' again, though systemd keeps sockets that were the laboratory's.
    service.configure(SQUARE)
    service.said = machine.taskmaster("install-service", *service.options).stdout
    assert "took away" in service.said
    service.prepare().control("restart")
    assert who_may(service) == {"eve"}


def test_a_group_that_there_is_not_is_said(install: Install) -> None:
    service = install(SQUARE, group="labb").prepare
    with pytest.raises(AssertionError, match="labb"):
        service()


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_keys_of_the_service_stay_roots_and_sockets_are_kept_with_them(install: Install, machine: Machine) -> None:
    service = install({**SQUARE, "far": master(workers=0)}, keys="keys.toml", listen=ADDRESS)
    assert f"taskmaster keys new --daemon --config {CONFIG}" in service.said
    machine.taskmaster("keys", "new", "--daemon", "--config", CONFIG)
    for name, role in (("una", "operator"), ("finn", "observer"), ("worker-rig", "worker")):
        machine.taskmaster(
            "keys", "new", name, "--role", role, "--file", f"/etc/taskmaster/{name}.key", "--config", CONFIG
        )
    known = machine.taskmaster("keys", "show", "--daemon", "--config", CONFIG).stdout.split()[-1]
    own = machine.root / "etc/taskmaster/daemon.key"
    assert (own.stat().st_mode & 0o777, own.stat().st_uid) == (0o600, 0)
    service.start()
    assert who_may(service) == {"eve"}, "the group's sockets are beside those of the network"
    assert service.show("NFileDescriptorStore") == "6"
    assert "ignoring" not in service.log, "systemd has something to say against the unit"
    for user in ("eve", "bob"):
        handed = f"/run/credentials/{service.unit}/daemon.key"
        assert machine.run("cat", handed, user=user, check=False).returncode != 0

    # Workers elsewhere, as a service with a key of their own.
    said = machine.taskmaster("install-service", "--worker", "--name", "rig").stdout
    folder = "/opt/taskmaster/tests/helpers/work"
    machine.write(
        "/etc/taskmaster/worker-rig.conf",
        f"ADDRESS={ADDRESS}\nMASTER=far\nOPTIONS=--processes 1 --path {folder}\nTASKMASTER_DAEMON_KEY={known}\n",
    )
    assert "TASKMASTER_DAEMON_KEY=tm-public-…" in said
    try:
        machine.run("systemctl", "daemon-reload")
        machine.await_active("taskmaster-worker@rig.service", start=True)
        assert "9" in by_key(machine, "una", known, "submit", "far", "x=3", "--wait")[1]

        # Whoever is revoked is out, though systemd listens at the same place before and after.
        service.control("restart")
        assert "16" in by_key(machine, "una", known, "submit", "far", "x=4", "--wait")[1]
        assert by_key(machine, "finn", known, "status")[0] == 0
        machine.taskmaster("keys", "revoke", "finn", "--config", CONFIG)
        service.await_log("the keys were read anew")
        assert by_key(machine, "finn", known, "status", check=False)[0] != 0
        assert "25" in by_key(machine, "una", known, "submit", "far", "x=5", "--wait")[1]
        service.control("restart")
        assert "36" in by_key(machine, "una", known, "submit", "far", "x=6", "--wait")[1]
        assert service.show("NFileDescriptorStore") == "6"
    finally:
        print(machine.log("taskmaster-worker@rig.service"))
        machine.run("systemctl", "stop", "taskmaster-worker@rig.service")


def test_a_key_that_is_missing_is_said_once(install: Install, machine: Machine) -> None:
    service = install(SQUARE, keys="keys.toml", listen=ADDRESS).prepare()
    machine.write("/etc/taskmaster/keys.toml", "")
    assert service.control("start", check=False).returncode != 0
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("failed", "0")
    assert "there is no file /etc/taskmaster/daemon.key; make one with: taskmaster keys new" in service.log
