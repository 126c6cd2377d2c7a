"""Where the Lorenz system is chaotic: an adaptive learner asks for points, a batch of them is evaluated in one launch.

pip install adaptive
python examples/lorenz_map.py          # on the processor
python examples/lorenz_map.py cuda     # on all CUDA devices: one line of the configuration is another
python examples/lorenz_map.py kernel   # there, by the CUDA kernel in lorenz.cu
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import adaptive

from taskmaster.config.shipped import example
from taskmaster.learners import Loop, connect
from taskmaster.learners.adaptive import AdaptiveLearner

RHO, SIGMA = (0.0, 50.0), (2.0, 20.0)
FUNCTION = f"""
function = "lorenz:exponent"
path = ["{example("lorenz.py").parent}"]
"""
KERNEL = f"""
kernel = "{example("lorenz.cu")}:exponent"
signature = "const double* X, double* exponent, int n"
"""
EVALUATED = {"cpu": f'{FUNCTION}device = "cpu"', "cuda": FUNCTION, "kernel": KERNEL}


def configuration(folder: str, where: str) -> str:
    return f"""
[daemon]
state = "state"
listen = "ipc://{folder}/control"

[masters.lorenz]
driver = "gpu"
{EVALUATED[where]}

[masters.lorenz.parameters]
rho = {{ min = {RHO[0]}, max = {RHO[1]} }}
sigma = {{ min = {SIGMA[0]}, max = {SIGMA[1]} }}

[masters.lorenz.outputs]
exponent = {{}}
"""


def main(where: str = "cpu") -> None:
    if where not in EVALUATED:
        sys.exit(f"{where!r}: expected one of {', '.join(EVALUATED)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lorenz.toml")
        file.write_text(configuration(folder, where), encoding="utf-8")
        daemon = subprocess.Popen([sys.executable, "-m", "taskmaster", "serve", file], stdout=subprocess.DEVNULL)
        try:
            with connect(f"ipc://{folder}/control", timeout=30) as lab:
                if not lab["lorenz"].wait_for_slots():
                    sys.exit(lab["lorenz"].statistics().reason or "no worker has started")
                plane = adaptive.Learner2D(None, (RHO, SIGMA))
                learner = AdaptiveLearner(plane, ["rho", "sigma"])
                Loop(lab["lorenz"].open("map"), learner, goal=300, in_flight=64).run()
                chaotic = [rho for (rho, sigma), exponent in plane.data.items() if exponent > 0.5]
            print(f"{plane.npoints} points, {len(chaotic)} of them chaotic, the first at rho = {min(chaotic):.1f}")
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
