"""The files of a service: units, drop-ins, its user, its folders and the rules of its devices, from `systemd/`.

Each one begins with a line that has a digest of the rest. By that a file that was changed by hand is told from one that
an earlier release has written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from taskmaster.bus.keys import DAEMON_KEY
from taskmaster.cli.installation import Installation, is_home, outermost

if TYPE_CHECKING:
    from taskmaster.config.load import Config

__all__ = [
    "ALLOWANCES",
    "DEVICES",
    "SHARED",
    "Service",
    "UnitFile",
    "is_ours",
    "read_by",
    "unit_files",
    "written_by",
]

_TEMPLATES = Path(__file__).resolve().parent / "systemd"

#: Classes of devices, and what else a service may be allowed: drop-ins.
DEVICES = ("serial", "usbtmc", "gpib", "gpu")
ALLOWANCES = ("internet", "processors")

#: What stands in the templates for the program.
_PROGRAM = "/usr/bin/env taskmaster"
_STAMP = "# Written by taskmaster install-service, sha256 {digest}. Changes belong into drop-ins: systemctl edit\n"
_STAMPED = re.compile(r"# Written by taskmaster install-service, sha256 ([0-9a-f]{64})\..*\n")

#: What all services of a machine have in common, and what each is for.
SHARED = {
    "sysusers.d/taskmaster.conf": ("etc/sysusers.d/taskmaster.conf", "the daemon's user, and the group of its users"),
    "tmpfiles.d/taskmaster.conf": ("etc/tmpfiles.d/taskmaster.conf", "the folders of its sockets and configurations"),
    "udev/70-taskmaster.rules": ("etc/udev/rules.d/70-taskmaster.rules", "whose the instruments' devices are"),
}


@dataclass(frozen=True)
class UnitFile:
    """A file to be written, and in words for what."""

    path: Path
    text: str
    purpose: str


@dataclass(frozen=True)
class Service:
    """What is asked for: a daemon (or, with ``worker``, workers for one elsewhere) of a name, or of none."""

    name: str = ""
    worker: bool = False
    user: bool = False
    config: Path | None = None
    devices: Sequence[str] = ()
    allowances: Sequence[str] = ()
    writable: Sequence[Path] = ()
    #: networks of this machine that are not private ones
    networks: Sequence[str] = ()
    root: Path = field(default_factory=lambda: Path("/"))

    @property
    def template(self) -> str:
        """The unit's file, which all services of a kind that have a name share."""
        if self.worker:
            return "taskmaster-worker@.service"
        return "taskmaster@.service" if self.name else "taskmaster.service"

    @property
    def unit(self) -> str:
        """What one types to start it."""
        return self.template.replace("@.", f"@{self.name}.") if self.name else self.template

    @property
    def folder(self) -> Path:
        """Where its units are."""
        if self.user:
            return self.root / str(Path("~/.config/systemd/user").expanduser()).lstrip("/")
        return self.root / "etc/systemd/system"

    @property
    def sharing(self) -> Path:
        """The file that gives its sockets to a group of its own."""
        return self.root / f"etc/tmpfiles.d/taskmaster@{self.name}.conf"

    @property
    def default_config(self) -> Path:
        """The configuration that the unit names."""
        name = f"worker-{self.name}.conf" if self.worker else f"{self.name or 'taskmaster'}.toml"
        return (Path("~/.config/taskmaster").expanduser() if self.user else Path("/etc/taskmaster")) / name


def is_ours(text: str) -> bool:
    """Whether this command has written it, whichever release, and nobody has changed it since."""
    stamped = _STAMPED.match(text)
    return stamped is not None and stamped[1] == _digest(text[stamped.end() :])


def unit_files(service: Service, installation: Installation, config: Config | None) -> list[UnitFile]:
    """What the service takes. ``config`` is what it is to serve; None for workers."""
    source = f"user/{service.template}" if service.user else service.template
    program = " ".join(_argument(part) for part in installation.command)
    unit = _read(source).replace(_PROGRAM, program)
    what = "workers for a daemon elsewhere" if service.worker else "the daemon as a service"
    files = [UnitFile(service.folder / service.template, _stamped(unit), what)]
    drop_ins = service.folder / f"{service.unit}.d"
    if site := _site(service, installation, config, program):
        files.append(UnitFile(drop_ins / "10-site.conf", _stamped(site), "what this machine and configuration need"))
    for kind in (*service.devices, *service.allowances):
        what = f"devices: {kind}" if kind in DEVICES else f"allowed: {kind}"
        files.append(UnitFile(drop_ins / f"20-{kind}.conf", _stamped(_read(f"drop-ins/{kind}.conf")), what))
    if not service.user:
        if config is not None and config.daemon.group is not None:
            files.append(UnitFile(service.sharing, _stamped(_shared(service, config.daemon.group)), "who may use it"))
        files += [
            UnitFile(service.root / place, _stamped(_read(template)), purpose)
            for template, (place, purpose) in SHARED.items()
            if service.devices or not template.startswith("udev")
        ]
    return files


def _shared(service: Service, group: str) -> str:
    """What gives the folder of its sockets to a group, and thereby the sockets."""
    line = f"d /run/taskmaster/{service.name} 2750" if service.name else "z /run/taskmaster 2755"
    return f"# tmpfiles.d(5). Members of this group may connect to the sockets in it.\n{line} taskmaster {group}\n"


def _site(service: Service, installation: Installation, config: Config | None, program: str) -> str:
    """The drop-in for what is so here and nowhere else; empty where nothing is."""
    lines: list[str] = []
    if service.config is not None and service.config != service.default_config and not service.worker:
        lines += ["ExecStart=", f"ExecStart={program} serve {_argument(str(service.config))}"]
    if installation.python_path:
        path = ":".join(map(str, installation.python_path))
        lines += [f"Environment={_quoted(f'PYTHONPATH={path}')}"]
    if not service.user:
        lines += _sight(service, installation, config)
        if config is not None and config.daemon.own_key is not None:
            lines += [
                "# Its own key, which stays root's, is handed to it.",
                f"LoadCredential={DAEMON_KEY}:{str(config.daemon.own_key).replace('%', '%%')}",
                f"SetCredential={DAEMON_KEY}:none",
            ]
        if service.networks:
            lines += [
                "# Networks of this machine that are not private ones, and its name servers.",
                f"IPAddressAllow={' '.join(service.networks)}",
            ]
    unit = (
        ["[Unit]", "# It listens to the network.", "Wants=network-online.target", ""]
        if _is_on_a_network(config)
        else []
    )
    if not lines and not unit:
        return ""
    return "\n".join(["# What this machine and this configuration need.", *unit, "[Service]", *lines, ""])


def _is_on_a_network(config: Config | None) -> bool:
    """Whether it listens on an address that is there only once the network is."""
    addresses = () if config is None else config.daemon.addresses
    local = ("ipc://", "tcp://127.", "tcp://[::1]:")
    return any(not address.startswith(local) for address in addresses)


def _sight(service: Service, installation: Installation, config: Config | None) -> list[str]:
    """What the service has to see and to write that its unit keeps from it."""
    needed = read_by(service, installation, config)
    written = written_by(service, config)
    lines = []
    if any(is_home(path) for path in (*needed, *written)):
        lines += ["# Of homes it sees nothing but what is shown to it here.", "ProtectHome=tmpfs"]
    lines += [f"BindReadOnlyPaths={_quoted(str(path))}" for path in needed if is_home(path)]
    for path in written:
        key = "BindPaths" if is_home(path) else "ReadWritePaths"
        lines.append(f"{key}={_quoted(str(path))}")
    return lines


def read_by(service: Service, installation: Installation, config: Config | None) -> tuple[Path, ...]:
    """The folders of the program, of the configuration and of what it evaluates."""
    folders = [] if service.config is None or service.worker else [service.config.parent]
    if config is not None and config.daemon.keys is not None:
        folders.append(config.daemon.keys.parent)  # not the file: another one takes its place when it changes
    for master in () if config is None else config.masters.values():
        folders += getattr(master.options, "path", ())
    return outermost([*installation.folders, *(path for folder in folders for path in (folder, folder.resolve()))])


def written_by(service: Service, config: Config | None) -> tuple[Path, ...]:
    """The folders that it writes to, besides those that systemd makes for it."""
    found = list(service.writable)
    if config is not None:
        daemon = config.daemon
        found += [daemon.state] if "state" in daemon.model_fields_set else []
        for address in (daemon.listen, daemon.results, daemon.workers):
            if address is not None and address.startswith("ipc://"):
                found.append(Path(address.removeprefix("ipc://")).parent)
    return outermost(path for path in found if not path.is_relative_to("/run/taskmaster"))


def _argument(text: str) -> str:
    """A word of a command line."""
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    """As systemd reads it: blanks and percent signs have a meaning there."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if re.search(r"[\s\"'\\;]", text) else text


def _read(template: str) -> str:
    return (_TEMPLATES / template).read_text(encoding="utf-8")


def _stamped(text: str) -> str:
    return _STAMP.format(digest=_digest(text)) + text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
