"""``taskmaster serve --simulate``: a daemon whose instruments are simulators, made from what its file says of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from helpers.cli import taskmaster
from helpers.daemon import EVALUATIONS
from helpers.waiting import PATIENCE, eventually

from taskmaster.learners.client import connect

LAB = f"""\
[daemon]
state = "state"
heartbeat = "100 ms"
lost_after = "5 s"

[masters.probe]
driver = "visa"
parameters = {{ x = {{ min = 0, max = 100 }}, y = {{ min = 0, max = 100 }} }}
outputs = {{ current = {{ unit = "A", min = -1, max = 2 }} }}
commands = {{ set = ["POS {{x:.2f}},{{y:.2f}}"], read = {{ current = "CURR?" }}, safe = ["POS 0,0"] }}
heads = [
  {{ name = "a", resource = "USB0::0x0957::0x1796::A::INSTR", identity = 'ACME,A\\d+,.*', read_terminator = "" }},
  {{ name = "b", resource = "ASRL/dev/ttyUSB7::INSTR", identity = "ACME,B,.*", parity = "even", data_bits = 7 }},
]

[masters.oven]
driver = "serial"
resource = "/dev/ttyUSB8"
read_terminator = "\\r\\n"
write_terminator = "\\r"
parity = "odd"
parameters.t = {{ min = 20, max = 80 }}
outputs.reached = {{ min = 20, max = 80 }}
commands = {{ set = ["T {{t:.1f}}"], read = {{ reached = {{ query = "T?", pattern = "T=(.*) C" }} }}, safe = [] }}

[masters.real]
driver = "instrument"
class = "benches:Heater"
path = ["{EVALUATIONS}"]
resource = "never-opened"
set = {{ power = "power" }}
read = {{ temperature = "temperature" }}
parameters.power = {{}}
outputs.temperature = {{}}
"""


def test_a_learner_can_be_tried_before_the_hardware_is_there(place: Path) -> None:
    (place / "lab.toml").write_text(LAB, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "taskmaster", "serve", "lab.toml", "--simulate"],
        cwd=place, env={**os.environ, "NO_COLOR": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = ""
        while "is ready at" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        address = f"ipc://{place}/state-simulated/control"
        assert address in said
        assert "Master 'real' is left out: its class benches:Heater reaches its instrument by itself" in said
        assert re.search(r"simulated: probe\.a, probe\.b, oven; what goes wrong is said at 127\.0\.0\.1:\d+", said)
        with connect(address) as lab:
            assert sorted(master.name for master in lab.status().masters) == ["oven", "probe"]
            with lab["probe"].open("first") as run:
                run.tasks.put_many([{"x": float(x), "y": 10.0} for x in range(20)])
                currents = [run.results.get(timeout=PATIENCE).output for _ in range(20)]
            assert all(-1 <= current <= 2 for current in currents)
            assert len(set(currents)) == 20
            with lab["oven"].open("first") as run:
                run.tasks.put({"t": 50.0})
                assert 20 <= run.results.get(timeout=PATIENCE).output <= 80

        def heads() -> str:
            return taskmaster("heads", "--address", address).out

        eventually(lambda: len(re.findall(r"probe +[ab] +ready", said := heads())) == 2 and said, "both to be ready")
        assert "ACME,B,simulated" in heads()
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, rest
    assert not (place / "state").exists()
    assert not (place / "never-opened").exists()
