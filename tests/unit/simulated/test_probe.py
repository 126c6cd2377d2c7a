"""The simulated probe behaves like one, and the same in every run."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.noise import PinkNoise, white
from taskmaster.drivers.simulated.probe import ProbeHead, ProbeOptions, make_probe
from taskmaster.drivers.simulated.surface import STEP_HEIGHT, Surface

QUIET = {"settling": 0.0, "noise": 0.0, "drift": 0.0, "crosstalk": 0.0}


def told(head: ProbeHead, line: str) -> str:
    answer = head.execute(line.encode())
    assert isinstance(answer, bytes), f"{line} has no answer yet"
    return answer.decode()


def approached(head: ProbeHead, bias: float = 1.0) -> ProbeHead:
    head.execute(b"TIP:APPR;BIAS %g" % bias)
    head.clock.advance(1.0)
    return head


def probe(**options: float) -> list[ProbeHead]:
    return make_probe(ProbeOptions(**{"heads": 2, **options}), Clock(0))  # type: ignore[arg-type]


# -- the surface ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface(500.0, seed=1)


def test_terraces_are_a_step_apart_with_adatoms_on_them(surface: Surface) -> None:
    axis = np.linspace(0, 500, 1001)
    heights = surface.heights(axis, axis)
    low, high = np.percentile(heights, [0.1, 95])
    assert high - low == pytest.approx(STEP_HEIGHT, rel=0.2)
    assert heights.max() > high + 0.08, "adatoms stand out"
    slope = np.abs(np.diff(heights, axis=1)).max()
    assert slope > 0.05, "steps are steep"


def test_one_place_and_a_grid_of_places_agree(surface: Surface) -> None:
    x, y = np.linspace(-3, 503, 40), np.linspace(-3, 503, 30)
    grid = surface.heights(x, y)
    one_by_one = [[surface.height(a, b) for a in x] for b in y]
    np.testing.assert_allclose(grid, one_by_one, atol=1e-5)


# -- the current ------------------------------------------------------------------------------------------------------


def test_the_current_follows_bias_and_height() -> None:
    head = approached(probe(**QUIET)[0])
    head.execute(b"POS 100,200")
    first = float(told(head, "MEAS:CURR?"))
    head.execute(b"BIAS -2")
    assert float(told(head, "MEAS:CURR?")) == pytest.approx(-2 * first, rel=1e-5, abs=0)

    heights, currents = [], []
    head.execute(b"BIAS 1")
    for x in range(0, 500, 7):
        head.execute(b"POS %d,50" % x)
        currents.append(float(told(head, "MEAS:CURR?")))
        heights.append(head.truth(head.clock.now())["height"])
    slope, _ = np.polyfit(heights, np.log(currents), 1)
    assert slope == pytest.approx(10.25 * math.sqrt(0.5), rel=1e-3)


def test_without_tip_or_bias_no_current_flows() -> None:
    head = probe(**QUIET)[0]
    head.execute(b"BIAS 1;POS 10,10")
    assert float(told(head, "MEAS:CURR?")) == 0, "it is withdrawn at power-on"
    approached(head)
    assert float(told(head, "MEAS:CURR?")) > 0
    head.execute(b"BIAS 0")
    assert float(told(head, "MEAS:CURR?")) == 0
    head.execute(b"BIAS 1;TIP:WITHDRAW")
    assert float(told(head, "MEAS:CURR?")) == 0
    assert told(head, "TIP?") == "WITHDRAWN"


def test_the_tip_takes_its_time_to_settle() -> None:
    head = approached(probe(**{**QUIET, "settling": 1.0})[0])
    head.execute(b"POS 100,0")
    seen = []
    for _ in range(4):
        seen.append(float(told(head, "POS?").split(",")[0]))
        head.clock.advance(1 / 3)
    assert seen == pytest.approx([0, 90, 99, 99.9], abs=0.01)
    assert told(head, "*OPC?") == "1"


def test_drift_carries_the_tip_off_unseen() -> None:
    head = probe(**{**QUIET, "drift": 0.01})[0]
    head.execute(b"POS 100,100")
    head.clock.advance(1000)
    truth = head.truth(head.clock.now())
    assert math.hypot(truth["tip_x"] - 100, truth["tip_y"] - 100) == pytest.approx(10.0)
    assert told(head, "POS?") == "100.0000,100.0000"


def test_heads_beside_each_other_disturb_each_other() -> None:
    first, second, third = probe(**{**QUIET, "heads": 3, "crosstalk": 1e-3})
    approached(second)
    disturbance = float(told(first, "MEAS:CURR?"))
    own = float(told(second, "MEAS:CURR?"))
    assert disturbance == pytest.approx(1e-3 * (own + 2e-10), rel=1e-4, abs=0), "current, and bias through the wiring"
    assert float(told(third, "MEAS:CURR?")) == disturbance
    second.execute(b"BIAS 0")
    assert float(told(first, "MEAS:CURR?")) == 0


def image(head: ProbeHead, width: int, height: int) -> npt.NDArray[np.float32]:
    answer = head.execute(b"MEAS:IMAG? %d,%d" % (width, height))
    assert isinstance(answer, bytes)
    digits = int(answer[1:2])
    assert int(answer[2 : 2 + digits]) == 4 * width * height
    return np.frombuffer(answer[2 + digits :], "<f4").reshape(height, width)


def test_an_image_shows_what_single_readings_do() -> None:
    head = approached(probe(**QUIET)[0])
    head.execute(b"POS 100,100;FRAM 40")
    taken = image(head, 5, 3)
    for row, y in enumerate((80, 100, 120)):
        for column, x in enumerate((80, 90, 100, 110, 120)):
            head.execute(b"POS %d,%d" % (x, y))
            assert taken[row, column] == pytest.approx(float(told(head, "MEAS:CURR?")), rel=1e-4, abs=0)


def test_a_waveform_begins_with_the_reading_of_its_moment() -> None:
    head = approached(probe(noise=0.01)[0])
    samples = [float(sample) for sample in told(head, "MEAS:WAV? 500").split(",")]
    assert len(samples) == 500
    assert samples[0] == pytest.approx(float(told(head, "MEAS:CURR?")), rel=0.01, abs=0)
    assert np.std(samples) > 0


def test_a_head_whose_cooling_fails_gets_hot_and_cools_down_again() -> None:
    head = probe()[0]
    assert float(told(head, "TEMP?")) == pytest.approx(25, abs=0.2)
    head.overheat(0.0, hot=True)
    head.clock.advance(5)
    assert float(told(head, "TEMP?")) == pytest.approx(95, abs=0.2)
    head.overheat(head.clock.now(), hot=False)
    head.clock.advance(5)
    assert float(told(head, "TEMP?")) == pytest.approx(25, abs=0.2)


# -- determinism ------------------------------------------------------------------------------------------------------

SCRIPT = ["TIP:APPR;BIAS 0.7;POS 30,40", "MEAS:CURR?", "MEAS:WAV? 3", "TEMP?", "POS 70,80", "MEAS:CURR?", "POS?"]


def record(seed: int, *, looked_at: int = 1) -> list[list[object]]:
    heads = make_probe(ProbeOptions(seed=seed), Clock(0))
    answers: list[list[object]] = [[] for _ in heads]
    for line in SCRIPT:
        for head, said in zip(heads, answers, strict=True):
            for _ in range(looked_at):
                answer = head.execute(line.encode())
            said.append(answer)
        heads[0].clock.advance(0.0123)
    return answers


def test_the_same_commands_at_the_same_times_have_the_same_answers() -> None:
    first = record(seed=5)
    assert record(seed=5) == first
    assert record(seed=5, looked_at=3) == first, "looking does not change what is seen"
    assert record(seed=6) != first
    assert first[0] != first[1], "no head is like another"


def test_the_noise_is_pink() -> None:
    noise = PinkNoise((1, 2), 1.0, 1e-3, 1e3)
    samples = noise.over(np.arange(200_000) / 4000)
    assert samples.std() == pytest.approx(1.0, rel=0.5)
    assert noise.at(12.5) == pytest.approx(samples[50_000])
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / 4000)
    decades = [power[(frequencies >= low) & (frequencies < 10 * low)].sum() for low in (0.1, 1.0, 10.0, 100.0)]
    assert max(decades) / min(decades) < 6, "as much power in each decade, though there are few lines in it"


def test_white_noise_is_normal_and_belongs_to_its_moment() -> None:
    deviates = [white(7, i * 1e-6) for i in range(20_000)]
    assert np.mean(deviates) == pytest.approx(0, abs=0.03)
    assert np.std(deviates) == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(deviates[:-1], deviates[1:])[0, 1]) < 0.03
    assert white(7, 0.5) == white(7, 0.5)
    assert white(8, 0.5) != white(7, 0.5)


def test_a_clock_stretches_time_or_stands_still() -> None:
    real = iter([10.0, 13.0, 13.0, 13.0])
    fast = Clock(100.0, lambda: next(real))
    assert fast.now() == 300.0
    assert fast.real_at(400.0) == 14.0

    still = Clock(0)
    still.advance(7.5)
    assert still.now() == 7.5
    assert still.real_at(8.0) == math.inf
    for nonsense in (-1.0, math.nan):
        with pytest.raises(ValueError):
            Clock(nonsense)
        with pytest.raises(ValueError):
            still.advance(nonsense)
