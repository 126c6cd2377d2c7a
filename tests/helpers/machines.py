"""Machines of a network of their own: namespaces with a link each to a bridge, and names for each other."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

__all__ = ["Machines"]

_ETC = Path("/etc/netns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


class Machines:
    """A context manager. Skips the test where the kernel or the user's rights have no namespaces for it."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._tag = f"tm{os.getpid() % 100_000}"
        self.addresses = {name: f"10.79.{os.getpid() % 250}.{k + 1}" for k, name in enumerate(names)}

    def namespace(self, name: str) -> str:
        """What the kernel knows a machine by."""
        return f"{self._tag}-{name}"

    def on(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs another on a machine."""
        return ["ip", "netns", "exec", self.namespace(name), *command]

    def run(self, name: str, command: str, environment: Mapping[str, str], folder: Path, timeout: float = 120.0) -> str:
        """What a line of shell says on a machine; AssertionError with it where it fails."""
        done = subprocess.run(
            self.on(name, ["sh", "-c", command]),
            env=dict(environment), cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def __enter__(self) -> Machines:
        if os.geteuid() or shutil.which("ip") is None:
            pytest.skip("network namespaces need root, and the program ip (package iproute2)")
        try:
            _ip("link", "add", self._tag, "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel has no bridge for namespaces: {error.stderr.decode().strip()}")
        _ip("link", "set", self._tag, "up")
        hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in self.addresses.items())
        for k, (name, address) in enumerate(self.addresses.items()):
            space, link = self.namespace(name), f"{self._tag}v{k}"
            _ip("netns", "add", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", self._tag, "up")
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            (_ETC / space).mkdir(parents=True, exist_ok=True)
            (_ETC / space / "hosts").write_text(hosts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", self.namespace(name)], capture_output=True, check=False)
            shutil.rmtree(_ETC / self.namespace(name), ignore_errors=True)
        subprocess.run(["ip", "link", "delete", self._tag], capture_output=True, check=False)
