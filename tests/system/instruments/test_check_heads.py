"""``taskmaster check --connect`` and ``--simulate``: every head of a configuration, tried before it is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Program
from helpers.daemon import EVALUATIONS
from helpers.documents import document, section, tables

from taskmaster.config.shipped import example, examples
from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.simulated import Laboratory

MISTAKE, TROUBLE = 3, 12


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


@pytest.fixture(scope="module")
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=4, settling=0) as laboratory:
        yield laboratory


def stm(probe: Laboratory, folder: Path) -> Path:
    """The shipped example, at this laboratory."""
    text = example("stm").read_text(encoding="utf-8").replace('query_timeout = "2 s" ', 'query_timeout = "0.5 s" ')
    for port, head in enumerate(probe.heads, 5025):
        text = text.replace(f"TCPIP0::127.0.0.1::{port}::SOCKET", head.resource)
    path = folder / "stm.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tried(said: str) -> dict[str, dict[str, Any]]:
    """The heads in the JSON of a check, by name."""
    return {head["head"] or head["master"]: head for head in json.loads(said)["heads"]}


def documented() -> set[str]:
    """The keys of a head, as docs/cli.md lists them."""
    _, rows = tables(section(document("docs/cli.md"), "Of `check CONFIG`"))
    return {key for row in rows for key in re.findall(r"\w+", row[0])}


# -- connect -----------------------------------------------------------------------------------------------------------


def test_instruments_are_looked_at_and_nothing_is_set(probe: Laboratory, typed: Program, tmp_path: Path) -> None:
    said = typed("check", stm(probe, tmp_path), "--connect")
    assert said.status == 0, said.err
    for head in probe.heads:
        assert re.search(rf"{head.name} +{head.resource} +{head.identity} +yes", said.out)
        sent = probe.control.actions(head.name)
        assert sent.counts.keys() == {"*IDN?", "MEAS:CURR?", "TEMP?", "SYST:ERR?"}
        assert {action.kind for action in sent.actions} == {"measure"}
    assert re.search(r"current=\S+ A  temperature=2\d\.\d+ °C", said.out)


def test_what_is_wrong_with_each_head_is_said_and_done_about(probe: Laboratory, typed: Program, tmp_path: Path) -> None:
    control = probe.control
    control.unplug("tip-1")
    control.fault("identity", "tip-2", text="ACME,STM-HEAD,0009,1.0")
    control.fault("garbage", "tip-3", match="MEAS")
    path = stm(probe, tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("max = 60", "max = 10"), encoding="utf-8")
    try:
        with Claim(probe["tip-4"].resource, "stm/tip-4 of a daemon"):
            said = typed("check", path, "--connect", "stm", "--json")
        heads = tried(said.out)
    finally:
        control.clear()
        control.replug()
    assert (said.status, said.err) == (TROUBLE, f"taskmaster: {path}: 4 of 4 heads cannot be used, see above\n")
    assert "Connection refused; is the instrument on" in heads["tip-1"]["problem"]
    assert "is 'ACME,STM-HEAD,0009,1.0', but `identity` is" in heads["tip-2"]["problem"]
    assert "stm/tip-4 of a daemon" in heads["tip-4"]["problem"]
    assert heads["tip-4"]["problem"].endswith("(`taskmaster heads`): end it for this check")
    assert [heads[name]["error"] for name in ("tip-1", "tip-2", "tip-4")] == ["Unreachable", "WrongIdentity", "Claimed"]
    assert all(head.keys() == documented() for head in heads.values())
    # One answer that is wrong: the others are had all the same.
    current, temperature, interlock = heads["tip-3"]["values"]
    assert heads["tip-3"]["identity"] == probe["tip-3"].identity
    assert current["problem"].startswith("'MEAS:CURR?' for 'current'") or "received" in current["problem"]
    assert (temperature["problem"], temperature["unit"]) == ("", "°C")
    assert re.fullmatch(r"would trip: 2\d(\.\d+)? is above max = 10", interlock["problem"])
    assert interlock["value"] > 10


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max = 60", "max = 10", "interlock temperature: would trip: 2"),
        (
            'ok = "0,.*"',
            'ok = "OK"',
            "errors: `errors.ok` = 'OK' does not match '0,\"No error\"'; correct it if that means",
        ),
        ('{ query = "SYST:ERR?"', '{ query = "*CLS"', "errors.query = '*CLS' was not tried: without a '?' it may do"),
    ],
)
def test_what_would_fail_every_task_is_found_before_the_first(
    probe: Laboratory, typed: Program, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    path = stm(probe, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    said = typed("check", path, "--connect")
    assert f"Master 'stm', head 'tip-4': {expected}" in said.out
    assert said.status == (0 if "not tried" in expected else TROUBLE)


CLASSES = f"""\
[masters.heater]
driver = "instrument"
class = "benches:Heater"
path = ["{EVALUATIONS}"]
resource = "{{log}}"
init = {{ power = 0.5 }}
set = {{ power = "power" }}
read = {{ temperature = "temperature" }}
safe = ["off"]
parameters.power = {{ min = 0, max = 1 }}
outputs.temperature = {{ unit = "°C" }}
"""
OWN = f"""\
[masters.{{name}}]
driver = "instrument"
class = "benches:{{kind}}"
path = ["{EVALUATIONS}"]
outputs.temperature = {{{{}}}}
"""


def test_an_instrument_with_a_programme_is_looked_at_as_any_other(typed: Program, tmp_path: Path) -> None:
    with Laboratory("chambers", count=2) as chambers:
        text = example("growth").read_text(encoding="utf-8")
        for port, head in enumerate(chambers.heads, 5025):
            text = text.replace(f"TCPIP0::127.0.0.1::{port}::SOCKET", head.resource)
        path = tmp_path / "growth.toml"
        path.write_text(text, encoding="utf-8")
        looked = typed("check", path, "--connect")
        assert looked.status == 0, looked.err
        assert re.search(r"mass=\S+ g  air=\S+ °C", looked.out)
        assert {action.kind for action in chambers.control.actions("chamber-1").actions} == {"measure"}


def test_classes_are_connected_to_without_initialising(typed: Program, tmp_path: Path) -> None:
    """And one that crashes does so alone."""
    log = tmp_path / "log"
    own = {"looks": "Looks", "opens": "Opens", "crashes": "Crashes"}
    text = CLASSES.replace("{log}", str(log)) + "".join(OWN.format(name=n, kind=k) for n, k in own.items())
    path = tmp_path / "lab.toml"
    path.write_text(text, encoding="utf-8")
    said = typed("check", path, "--connect", "--json")
    heads = tried(said.out)
    assert said.status == TROUBLE
    assert [name for name, head in heads.items() if head["ok"]] == ["heater", "looks", "opens"]
    assert heads["heater"]["values"][0]["value"] == 20.0
    assert log.read_text() == ""
    assert (heads["looks"]["identity"], heads["looks"]["values"][0]["text"]) == ("LOOKS,1", "21.5")
    assert "it has no connect(self); it was not connected to" in heads["opens"]["notes"][0]
    assert heads["crashes"]["problem"] == "while reading: its process ended with signal 11"
    assert heads["crashes"]["identity"] == "LOOKS,1"


def test_what_a_task_could_not_return_is_told(typed: Program, tmp_path: Path) -> None:
    """Of an instrument that has not been initialised it may yet be right."""
    path = tmp_path / "lab.toml"
    text = CLASSES.replace("{log}", str(tmp_path / "log"))
    array = text.replace("outputs.temperature = {", "outputs.temperature = { shape = [48, 64],")
    path.write_text(array, encoding="utf-8")
    said = typed("check", path, "--connect")
    assert said.status == 0
    assert re.search(
        r"output temperature must be an array of shape \(48, 64\) in °C, got 20\.0.*; but `init` was not carried out\n",
        said.out,
    )
    text = text.replace("init =", "#")
    path.write_text(text.replace("outputs.temperature = {", "outputs.temperature = { max = 10,"), encoding="utf-8")
    said = typed("check", path, "--connect")
    assert said.status == TROUBLE
    assert "Master 'heater': output temperature: must be a number ≤ 10 °C, got 20.0\n" in said.out


def test_one_that_hangs_is_ended(typed: Program, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(OWN.format(name="hangs", kind="Hangs") + OWN.format(name="other", kind="Opens"), encoding="utf-8")
    said = typed("check", path, "hangs", "--connect", "--timeout", "3 s", "--json")
    assert said.status == TROUBLE
    problem = tried(said.out)["hangs"]["problem"]
    assert re.fullmatch("while .*: nothing came of it in 3 s, so its process was ended", problem)


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("--connect --simulate", 2, "--connect is for the instruments, --simulate does without them: use one of them"),
        ("svm", 2, "a MASTER is named with --connect or --simulate; without, all are checked"),
        ("--connect smv", 8, "there is no Master 'smv'; did you mean 'svm'?"),
        ("--simulate --timeout 0", 2, "--timeout: expected more than 0"),
        ("--connect --timeout soon", 2, "'soon' is not a duration"),
    ],
)
def test_what_is_typed_wrongly(typed: Program, line: str, status: int, expected: str) -> None:
    said = typed("check", example("svm"), *line.split())
    assert said.status == status
    assert expected in said.err


# -- simulate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", examples())
def test_every_example_can_be_simulated(typed: Program, name: str) -> None:
    said = typed("check", example(name), "--simulate", "--json")
    assert said.status == 0, said.err
    for head in json.loads(said.out)["heads"]:
        simulated = head["driver"] in ("visa", "serial")
        assert head["ok"], head
        assert bool(head["dialogue"]) == simulated
        if not (simulated or name in OWN_SIMULATION):
            assert any("not simulated" in note for note in head["notes"])


def test_a_task_is_shown_as_it_would_be_sent(typed: Program) -> None:
    """Ramped, waited for, read as numbers, lists, texts and blocks, over a terminal where the line is a serial one."""
    said = typed("check", example("instruments"), "--simulate", "--seed", "3")
    assert said.status == 0, said.err
    assert re.search(r"analyser +right +GPIB0::22::INSTR +ACME,ANALYSER,simulated +yes", said.out)
    assert re.search(r"heater +plate +/dev/ttyUSB1 +SIMULATED,heater.plate,0,0 +yes +\S+ s +reached=\S+ °C", said.out)
    assert "Master 'lamp', head 'blue': not simulated: its class lamp:Lamp reaches its instrument by itself" in said.out
    dialogue = said.out[said.out.index("Master 'analyser', head 'left': one task, at ") :]
    level = re.search(r"level=([\d.]+)", dialogue)
    assert level is not None
    assert f"CHAN 1;LEV {float(level[1]):.3f}\n" in dialogue
    for line in (
        r"open +\*IDN\? +→ ACME,ANALYSER,simulated", r"\*OPC\? +→ 1", r"TRAC\? +→ <float64 array of shape \(16,\)>",
        r"IMAG\? \d+ +→ <float32 array of shape \(480, \d+\)>", r"safe +CHAN 1;OUTP 0", r" WDOG 0\n",
    ):  # fmt: skip
        assert re.search(line, dialogue), line


UNSOUND = """\
[masters.lab]
driver = "visa"
resource = "GPIB0::1::INSTR"
outputs = { a = {}, b = { min = 0 } }
commands.read = { a = { query = "X?", pattern = "A=([^;]*)" }, b = "X?" }
commands.safe = []
"""


def test_what_no_instrument_could_answer_is_found(typed: Program, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(UNSOUND, encoding="utf-8")
    said = typed("check", path, "--simulate")
    assert said.status == TROUBLE
    assert "SIMULATOR: no answer fits all that read it" in said.out
    path.write_text(UNSOUND.replace(', b = "X?"', ', b = { query = "X?", pattern = "B=(.*)" }'), encoding="utf-8")
    assert typed("check", path, "--simulate").status == 0


def test_names_that_a_class_does_not_have(typed: Program, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    text = CLASSES.replace("{log}", str(tmp_path / "log"))
    path.write_text(
        text.replace('"temperature" }', '"temprature" }').replace('"off"', '"switch_off"'), encoding="utf-8"
    )
    said = typed("check", path)
    assert said.status == MISTAKE
    assert re.search(r"heater +instrument +read.temperature +temprature +no\n", said.out)
    assert "read.temperature: nothing in benches.Heater mentions 'temprature'; did you mean 'temperature'?" in said.out
    path.write_text(text + "interlocks.hot = { method = 'temperatur', max = 9 }\n", encoding="utf-8")
    (slip,) = json.loads(typed("check", path, "--json").out)["mistakes"]
    assert (slip["key"], slip["line"]) == ("masters.heater.interlocks.hot", 12)
    assert slip["message"] == "nothing in benches.Heater mentions 'temperatur'; did you mean 'temperature'?"
    path.write_text(text.replace('"off"', '"xyzzy"'), encoding="utf-8")
    assert typed("check", path).status == 0, "it may be right"
    said = typed("check", path, "--simulate")
    assert said.status == 0
    assert "safe: nothing in benches.Heater mentions 'xyzzy'; it may be made when the object is" in said.out
    assert not (tmp_path / "log").exists()


#: Examples whose instruments are simulated by their own libraries.
OWN_SIMULATION = ("pymeasure", "qcodes")

BENCH = Path(__file__).resolve().parents[3] / "config" / "examples" / "bench.yaml"

GENERATOR = f"""\
[masters.generator]
driver = "instrument"
class = "pymeasure.instruments.agilent:Agilent33220A"
resource = "GPIB0::10::INSTR"
identity = "Agilent Technologies,33220A,.*"
kwargs = {{ visa_library = "{BENCH}@sim" }}
set = {{ f = "frequency" }}
read = {{ back = "frequency" }}
safe = []
parameters.f = {{ min = 10, max = 1000 }}
outputs.back = {{ unit = "Hz" }}
"""


def test_a_class_that_brings_its_own_simulation_evaluates_a_task(typed: Program, tmp_path: Path) -> None:
    """PyMeasure's, at PyVISA-sim."""
    pytest.importorskip("pymeasure")
    path = tmp_path / "lab.toml"
    path.write_text(GENERATOR, encoding="utf-8")
    head = tried(typed("check", path, "--simulate", "--json").out)["generator"]
    assert head["ok"], head
    assert head["point"] == f"f={head['values'][0]['value']:.6g}"
    head = tried(typed("check", path, "--connect", "--json").out)["generator"]
    assert (head["ok"], head["identity"][:28]) == (True, "Agilent Technologies,33220A,")
