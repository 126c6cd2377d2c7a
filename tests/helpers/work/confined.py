"""What a function may do and may not: it tries, and tells what came of it."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_RETURN_42 = b"\xb8\x2a\x00\x00\x00\xc3"


def _compile() -> object:
    """As numba and its like do: write machine code, and run it."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(_RETURN_42)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if os.uname().machine == "x86_64":
        assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 42
    return None


def _cache() -> object:
    folder = Path(os.environ["XDG_CACHE_HOME"])
    (folder / "compiled").write_text("x")
    return None


def _use_temporary_files() -> object:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return None


def _share_memory() -> object:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    return None


def _raw_socket() -> object:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return None


def _become_root() -> object:
    return subprocess.run(["su", "-c", "true"], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _see_others() -> object:
    others = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and entry.stat().st_uid == 0]
    if not others:
        raise PermissionError
    return None


def _connect(host: str) -> object:
    with socket.socket() as one:
        one.settimeout(2)
        one.connect((host, 9))
    return None


def _open_device(name: str) -> object:
    """Of one that is there, but has nothing behind it, that is heard; one may not even be asked."""
    try:
        os.close(os.open(f"/dev/{name}", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
    except (PermissionError, FileNotFoundError):
        raise
    except OSError:
        return None
    return None


#: By name: what is tried.
ATTEMPTS: dict[str, Callable[[], object]] = {
    "compile": _compile,
    "be nice": lambda: os.nice(1),
    "choose a processor": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "use temporary files": _use_temporary_files,
    "cache": _cache,
    "have processes": _share_memory,
    "look at the network": socket.if_nameindex,
    "look at the processors": lambda: Path("/proc/cpuinfo").read_text(),
    "use many threads": lambda: np.linalg.inv(np.eye(200)),
    "write to /etc": lambda: Path("/etc/taskmaster/x").write_text("x"),
    "write to /usr": lambda: Path("/usr/x").write_text("x"),
    "write to /srv": lambda: Path("/srv/x").write_text("x"),
    "read homes": lambda: Path("/home", "ada", "secret").read_text(),
    "raw socket": _raw_socket,
    "become root": _become_root,
    "see others": _see_others,
    "read the kernel's log": lambda: Path("/dev/kmsg").open().close(),
    "look at devices": lambda: Path("/dev/console").stat(),
    "open a serial port": lambda: _open_device("ttyS7"),
    "open another device": lambda: _open_device("other"),
    "reach a private network": lambda: _connect("10.1.2.3"),
    "reach the internet": lambda: _connect("203.0.113.7"),
}


def attempt(names: Any) -> Any:
    """Each of some attempts → "done", or the kind of error."""
    return {name: _outcome(ATTEMPTS[name]) for name in names}


def _outcome(trial: Callable[[], object]) -> str:
    try:
        trial()
    except (OSError, subprocess.CalledProcessError) as error:
        return type(error).__name__
    return "done"


def oom_score(point: Any) -> Any:
    """How soon the kernel would end this worker, and its daemon, for their memory."""
    return {
        "worker": int(Path("/proc/self/oom_score_adj").read_text()),
        "daemon": int(Path(f"/proc/{os.getppid()}/oom_score_adj").read_text()),
    }
