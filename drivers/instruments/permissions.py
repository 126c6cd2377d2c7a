"""Why a device cannot be opened, and what to do: the group that may, or the udev rule that lets it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

from taskmaster.drivers.instruments.errors import InstrumentError, PermissionDenied, Unreachable

__all__ = ["LISTED", "denied", "denied_usb", "not_opened"]

#: The remedy for a resource that cannot be meant.
LISTED = "`taskmaster scan` lists what is there"


def denied(resource: str, path: str) -> PermissionDenied:
    """Of a tty or another device node that this user may not open."""
    user = _user()
    try:
        status = os.stat(path)
        group = _group(status.st_gid)
        mode = stat.filemode(status.st_mode)
    except OSError:
        group, mode = "dialout", ""
    node = os.path.realpath(path)
    told = f"{resource}: user {user!r} may not open {node}" + (f" ({mode}, group {group})" if mode else "")
    if group != "root":
        return PermissionDenied(
            f"{told}; add it to the group: sudo usermod -aG {group} {user}, then log in anew (a service: "
            f"SupplementaryGroups={group})"
        )
    return PermissionDenied(f"{told}; give it to a group by a udev rule: {_rule(Path(node).name)}")


def denied_usb(resource: str) -> PermissionDenied:
    """Of a USB instrument, ``USB0::0x0957::0x1796::…``."""
    parts = resource.split("::")
    vendor, product = ([_hex(part) for part in parts[1:3]] + ["XXXX", "XXXX"])[:2]
    rule = (
        f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product}", MODE="0660", GROUP="plugdev"'
    )
    return PermissionDenied(
        f"{resource}: user {_user()!r} may not open the USB device; put this udev rule into "
        f"/etc/udev/rules.d/70-instruments.rules, add the user to plugdev, and plug it in again: {rule}"
    )


def not_opened(resource: str, path: str, error: Exception) -> InstrumentError:
    """What the error at opening a serial port means, whichever library has raised it."""
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in (errno.EPERM, errno.EACCES):
        return denied(resource, path)
    if not os.path.exists(path):
        return Unreachable(f"{resource}: there is no {path}; is the instrument plugged in?")
    if not _is_terminal(path):
        return Unreachable(f"{resource}: {path} is no serial port; {LISTED}")
    return Unreachable(f"{resource}: {path} cannot be opened: {getattr(error, 'strerror', None) or error}")


def _is_terminal(path: str) -> bool:
    """As far as can be told: not of one that cannot be opened at all."""
    try:
        device = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return not os.path.isdir(path)
    try:
        return os.isatty(device)
    finally:
        os.close(device)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _hex(text: str) -> str:
    try:
        return f"{int(text, 0):04x}"
    except ValueError:
        return text.lower()


def _rule(kernel: str) -> str:
    return f'KERNEL=="{kernel}", MODE="0660", GROUP="dialout", in /etc/udev/rules.d/70-instruments.rules'
