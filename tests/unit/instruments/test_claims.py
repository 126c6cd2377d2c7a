"""One resource, one process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from taskmaster.drivers.instruments.claims import Claim, normalised
from taskmaster.drivers.instruments.errors import Claimed, PermissionDenied

RESOURCE = "TCPIP0::192.0.2.1::5025::SOCKET"
HOLD = """
import sys
from pathlib import Path
from taskmaster.drivers.instruments.claims import Claim
Claim(sys.argv[1], "stm/tip-1", [Path(sys.argv[2])])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TCPIP::h::5025::SOCKET", "tcpip0::H::5025::socket"),
        ("GPIB::8", "GPIB0::8::INSTR"),
        ("USB0::0x0957::0x1796::MY1::INSTR", "usb::0x0957::0X1796::my1"),
        ("/dev/null", "ASRL/dev/null::INSTR"),
        ("TCPIP0::127.0.0.1::5025::SOCKET", "tcpip::localhost::5025::SOCKET"),
        ("TCPIP0::localhost::inst0::INSTR", "TCPIP::LOCALHOST"),
        ("TCPIP0::[0:0:0:0:0:0:0:1]::5025::SOCKET", "TCPIP0::[::1]::5025::SOCKET"),
    ],
)
def test_the_same_resource_written_otherwise(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_others_are_others(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    assert normalised(str(link)) == normalised("ASRL/dev/null::INSTR")
    assert normalised("/dev/zero") != normalised("/dev/null")
    assert normalised("TCPIP::h::5025::SOCKET") != normalised("TCPIP::h::5026::SOCKET")
    assert normalised("TCPIP::h") != normalised("TCPIP1::h")
    assert normalised("TCPIP::localhost::5025::SOCKET") != normalised("TCPIP::nobody.invalid::5025::SOCKET")
    assert "NOBODY.INVALID" in normalised("TCPIP::nobody.invalid::5025::SOCKET")


def test_another_process_is_named_and_its_death_frees_the_resource(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, RESOURCE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Claimed, match=rf"in use by process {holder.pid}, stm/tip-1 .*one place only"):
            Claim(RESOURCE.lower(), "chambers", [tmp_path])
        holder.kill()
        holder.wait()
        with Claim(RESOURCE, "chambers", [tmp_path]) as claim:
            assert claim.path.read_text() == f"process {os.getpid()}, chambers\n"
        Claim(RESOURCE, "chambers", [tmp_path]).close()


def test_the_next_place_serves_where_one_cannot_be_written(tmp_path: Path) -> None:
    with Claim(RESOURCE, "stm", [tmp_path / "missing", tmp_path]) as claim:
        assert claim.path.parent == tmp_path
        assert stat.S_IMODE(claim.path.stat().st_mode) & 0o444 == 0o444, "other users have to see it"
    with pytest.raises(PermissionDenied, match="missing; make one"):
        Claim(RESOURCE, "stm", [tmp_path / "missing"])


def test_a_link_that_leads_elsewhere_by_now_is_not_what_is_held(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/ttyUSB0")
    with Claim(str(link), "stm", [tmp_path]) as claim:
        assert claim.holds(str(link))
        assert claim.holds("ASRL/dev/ttyUSB0::INSTR")
        link.unlink()
        assert not claim.holds(str(link)), "it is unplugged: let others have /dev/ttyUSB0"
