"""What a right file comes to: defaults, units, places relative to the file, fields for the wire."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from taskmaster.bus.fields import KINDS, Field
from taskmaster.config.load import load, loads
from taskmaster.config.options import DriverOptions, ProcessOptions, ThreadOptions
from taskmaster.config.parameters import Kind, ParameterSettings
from taskmaster.config.settings import BUILTIN_DRIVERS, Addresses, DaemonSettings

MASTER = """
[masters.svm]
driver = "process"
function = "digits:accuracy"
"""


def daemon(lines: str, folder: str | Path = "/tmp") -> DaemonSettings:
    return loads(f"[daemon]\n{lines}\n{MASTER}", folder=folder).daemon


def parameter(table: str) -> Field:
    """The field that ``table`` declares as the parameter `x`."""
    (field,) = loads(f"{MASTER}\nparameters.x = {table}").masters["svm"].parameter_fields
    return field


def test_a_file_is_read_with_everything_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    file = tmp_path / "lab.toml"
    file.write_bytes(f"\ufeff[daemon]\r\nstate = 'state/'\r\n{MASTER}path = ['lib', '.']\n".encode())  # an editor's BOM
    monkeypatch.chdir("/")
    config = load(file)
    assert config.path == file
    assert config.daemon.state == tmp_path / "state"
    assert config.daemon.addresses.control == f"ipc://{tmp_path}/state/control"
    options = config.masters["svm"].options
    assert isinstance(options, ProcessOptions)
    assert options.path == (tmp_path / "lib", tmp_path)


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    config = loads(MASTER)
    assert config.path is None
    assert config.daemon.state == tmp_path
    assert config.daemon.name
    assert config.daemon.durability == "power"
    assert (config.daemon.heartbeat, config.daemon.lost_after, config.daemon.grace) == (1, 10, 10)
    assert (config.daemon.max_message, config.daemon.keep_free) == (64 * 2**20, 256_000_000)
    svm = config.masters["svm"]
    assert (svm.name, svm.timeout, svm.on_lost, svm.max_attempts) == ("svm", None, "retry", 3)
    assert (svm.max_queued_tasks, svm.max_queued_bytes) == (10_000_000, 4 * 2**30)
    assert (svm.parameter_fields, svm.output_fields) == ((), ())
    assert isinstance(svm.options, ProcessOptions)
    assert svm.options.workers == len(os.sched_getaffinity(0))
    assert svm.options.path == (Path.cwd(),)


def test_a_master_has_the_daemons_limits_or_its_own() -> None:
    text = f"""
        [daemon]
        max_queued_tasks = 7
        {MASTER}
        max_queued_bytes = "1 kB"
    """
    svm = loads(text).masters["svm"]
    assert (svm.max_queued_tasks, svm.max_queued_bytes) == (7, 1000)


def test_units() -> None:
    settings = daemon(
        "heartbeat = '100 ms'\nlost_after = '300 ms'\ngrace = 2\nkeep_free = '1.5 GiB'\nmax_message = 4096"
    )
    assert (settings.heartbeat, settings.lost_after, settings.grace) == (0.1, 0.3, 2.0)
    assert (settings.keep_free, settings.max_message) == (3 * 2**29, 4096)


def test_thread_options() -> None:
    text = "[masters.camera]\ndriver = 'thread'\nfunction = 'a.b:C.d'\nthreads = 3\nenv = { A = 'b' }\nrestarts = 0"
    options = loads(text).masters["camera"].options
    assert isinstance(options, ThreadOptions)
    assert (options.function, options.threads, options.env, options.restarts) == ("a.b:C.d", 3, {"A": "b"}, 0)


def test_masters_and_parameters_keep_the_order_of_the_file() -> None:
    text = "".join(
        f"[masters.{name}]\ndriver = 'thread'\nfunction = 'a:b'\nparameters = {{ z = {{}}, a = {{}} }}\n"
        for name in "ba"
    )
    config = loads(text)
    assert list(config.masters) == ["b", "a"]
    assert [field.name for field in config.masters["b"].parameter_fields] == ["z", "a"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("{}", Field("x")),
        ("{ min = -2, max = 4, unit = 'V' }", Field("x", unit="V", min=-2.0, max=4.0)),
        ("{ min = 2, max = 2 }", Field("x", min=2.0, max=2.0)),
        ("{ kind = 'int', min = 1 }", Field("x", "int", min=1.0)),
        ("{ choices = ['a', 'b'] }", Field("x", "str", choices=("a", "b"))),
        ("{ choices = [1, 2] }", Field("x", "int", choices=(1, 2))),
        ("{ choices = [1, 2.5] }", Field("x", "float", choices=(1, 2.5))),
        ("{ choices = [true] }", Field("x", "bool", choices=(True,))),
        ("{ choices = [1, 2], kind = 'float' }", Field("x", "float", choices=(1.0, 2.0))),
        ("{ shape = [3, -1], nan = true }", Field("x", shape=(3, -1), nan=True)),
        ("{ kind = 'any', description = 'a picture' }", Field("x", "any", description="a picture")),
    ],
)
def test_a_parameter_becomes_a_field(table: str, expected: Field) -> None:
    field = parameter(table)
    assert field == expected
    assert [type(choice) for choice in field.choices] == [type(choice) for choice in expected.choices]


def test_an_output_may_be_nan_unless_it_is_told_not_to() -> None:
    text = f"{MASTER}\noutputs = {{ a = {{}}, b = {{ nan = false }}, c = {{ kind = 'int' }} }}"
    fields = loads(text).masters["svm"].output_fields
    assert [(field.name, field.nan) for field in fields] == [("a", True), ("b", False), ("c", False)]


def test_kinds_are_those_of_the_wire() -> None:
    assert set(Kind.__args__) == set(KINDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lines", "control", "results", "workers"),
    [
        ("", "ipc:///tmp/s/control", "ipc:///tmp/s/results", "ipc:///tmp/s/workers"),
        ("listen = 'ipc:///run/tm'", "ipc:///run/tm", "ipc:///tmp/s/results", "ipc:///tmp/s/workers"),
        ("listen = 'ipc://tm'", "ipc:///tmp/tm", "ipc:///tmp/s/results", "ipc:///tmp/s/workers"),
        ("listen = 'tcp://127.0.0.1:5570'", "tcp://127.0.0.1:5570", "tcp://127.0.0.1:5571", "tcp://127.0.0.1:5572"),
        ("listen = 'tcp://localhost:0'", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("listen = 'tcp://127.8.9.1:*'", "tcp://127.8.9.1:*", "tcp://127.8.9.1:*", "tcp://127.8.9.1:*"),
        ("listen = 'tcp://[::1]:7'", "tcp://[::1]:7", "tcp://[::1]:8", "tcp://[::1]:9"),
        (
            "listen = 'tcp://127.0.0.1:65535'\nresults = 'tcp://127.0.0.1:*'\nworkers = 'ipc://w'",
            "tcp://127.0.0.1:65535",
            "tcp://127.0.0.1:*",
            "ipc:///tmp/w",
        ),
    ],
)
def test_addresses(lines: str, control: str, results: str, workers: str) -> None:
    assert daemon(f"state = 's'\n{lines}").addresses == Addresses(control, results, workers)


def test_the_longest_socket_path_fits() -> None:
    state = "/" + "x" * (107 - len("//control"))
    assert len(daemon(f"state = '{state}'").addresses.control) == len("ipc://") + 107


def test_settings_do_not_change() -> None:
    config = loads(MASTER)
    with pytest.raises(ValidationError, match="frozen"):
        config.daemon.grace = 0.0
    with pytest.raises(ValidationError, match="frozen"):
        config.masters["svm"].timeout = 1.0


def test_settings_can_be_made_without_a_file() -> None:
    options = ProcessOptions(function="a:b", workers=1)
    assert options.path == (Path.cwd(),)
    assert options.model_dump(mode="json")["path"] == [str(Path.cwd())]  # as a worker is told
    with pytest.raises(ValidationError, match="expected at least min = 1, got 0"):
        ParameterSettings(min=1, max=0)
    with pytest.raises(ValidationError, match="listen: leaves no port for results"):
        DaemonSettings(listen="tcp://127.0.0.1:65535")


def test_a_third_partys_driver_has_its_keys_in_the_masters_table() -> None:
    class Probe(DriverOptions):
        resource: str
        heads: list[int]

    text = "[masters.probe]\ndriver = 'visa'\ntimeout = '1 s'\nresource = 'ASRL1::INSTR'\nheads = [1, 2]"
    master = loads(text, drivers={**BUILTIN_DRIVERS, "visa": Probe}).masters["probe"]
    assert master.timeout == 1
    assert master.options == Probe(resource="ASRL1::INSTR", heads=[1, 2])


def test_reading_a_configuration_loads_nothing_of_the_numerical_stack() -> None:
    program = f"import sys; from taskmaster.config.load import loads; loads({MASTER!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"numpy", "msgspec", "zmq", "apsw"} & set(loaded)
