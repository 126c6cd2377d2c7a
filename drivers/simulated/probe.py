"""A scanning probe with several heads over one synthetic surface.

The tunnelling current at constant mean height falls exponentially with the width of the gap (Simmons, J. Appl. Phys.
34, 1793, 1963; Binnig & Rohrer, Helv. Phys. Acta 55, 726, 1982): ``I = G V exp(2 κ h)`` for a surface that is ``h``
nearer than on average, ``2 κ = 10.25 √φ`` per nm for a barrier of ``φ`` eV. Low apparent barriers are common outside of
ultra-high vacuum; with the 0.5 eV taken here a monatomic step changes the current five-fold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taskmaster.drivers.simulated.actions import ActionLog
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.noise import PinkNoise, white
from taskmaster.drivers.simulated.relaxation import Relaxation
from taskmaster.drivers.simulated.scpi import Answer, Instrument, Number, Refused, block, command, number
from taskmaster.drivers.simulated.surface import Surface

__all__ = ["ProbeHead", "ProbeOptions", "make_probe"]

#: Conductance at the mean height, in A/V, and 2 κ, in 1/nm.
_CONDUCTANCE = 1e-9
_DECAY = 10.25 * math.sqrt(0.5)
#: What the current amplifier can show, in A, and its white noise.
_FULL_SCALE, _AMPLIFIER_NOISE = 1e-7, 2e-13
#: How far the wiring's capacitance couples a neighbour's bias into a head's amplifier, in A/V per unit of crosstalk.
_BIAS_COUPLING = 2e-10
#: Simulated seconds that approach and withdrawal take; the settling time is that many time constants.
_TIP_TRAVEL = 0.05
_SETTLED_AFTER = math.log(1000)
#: Samples per second of a waveform, and pixels per second of an image.
_WAVEFORM_RATE, _PIXEL_RATE = 10_000.0, 100_000.0
#: Temperature of a head as it should be, and of one whose cooling has failed, in °C; its time constant, in s.
_COOL, _HOT, _HEATING_SECONDS = 25.0, 95.0, 0.5
_LARGEST_IMAGE = 4096
#: Pixels after which the white noise of an image repeats itself, which nobody sees: deviates are dear.
_NOISE_LENGTH = 65_537
_LARGEST_WAVEFORM = 100_000


@dataclass(frozen=True)
class ProbeOptions:
    """How a probe is made."""

    heads: int = 4
    seed: int = 0
    #: side of the surface that can be reached, in nm
    size: float = 500.0
    #: simulated seconds until a tip stands still after a move, to a thousandth of it
    settling: float = 0.005
    #: rms of the noise, of 1/f spectrum, relative to the current
    noise: float = 0.01
    #: speed of the thermal drift of each head, in nm/s, in a direction of its own
    drift: float = 0.002
    #: share of the current of the heads beside it that a head sees
    crosstalk: float = 1e-3


def make_probe(options: ProbeOptions, clock: Clock, remembered: int = 100_000) -> list[ProbeHead]:
    """The heads of one probe: ``tip-1``, ``tip-2``, …"""
    surface = Surface(options.size, options.seed)
    heads: list[ProbeHead] = []
    heads.extend(
        ProbeHead(index, options, clock, ActionLog(remembered), surface, heads) for index in range(options.heads)
    )
    return heads


class ProbeHead(Instrument):
    """One head: a tip at a place over the surface, under a bias; a current amplifier; a thermometer."""

    def __init__(
        self,
        index: int,
        options: ProbeOptions,
        clock: Clock,
        log: ActionLog,
        surface: Surface,
        heads: list[ProbeHead],
    ) -> None:
        self._index = index
        self._options = options
        self._surface = surface
        self._heads = heads
        seed = (options.seed, index)
        self._noise = PinkNoise((*seed, 1), options.noise)
        self._thermal_noise = PinkNoise((*seed, 2), 0.02, 1e-4, 1.0)
        self._white_seed = int(np.random.default_rng((*seed, 3)).integers(1 << 63))
        direction = np.random.default_rng((*seed, 4)).uniform(0, 2 * math.pi)
        self._drift = (options.drift * math.cos(direction), options.drift * math.sin(direction))
        self._temperature = Relaxation(_COOL, _COOL, _HEATING_SECONDS, clock.now())
        super().__init__(f"tip-{index + 1}", f"ACME,STM-HEAD,{index + 1:04d},1.0", clock, log)

    def power_on(self, now: float) -> None:
        tau = self._options.settling / _SETTLED_AFTER
        self._bias = 0.0
        self._frame = 20.0
        self._approached = False
        self._x = Relaxation(0.0, 0.0, tau, now)
        self._y = Relaxation(0.0, 0.0, tau, now)
        self._done = 0.0

    def make_safe(self, now: float) -> None:
        self._withdraw(now)
        self._bias = 0.0

    def overheat(self, now: float, *, hot: bool) -> None:
        self._temperature.aim(_HOT if hot else _COOL, now)

    def settings(self) -> dict[str, float]:
        return {"x": self._x.target, "y": self._y.target, "bias": self._bias, "approached": float(self._approached)}

    def done_at(self) -> float:
        return self._done

    def truth(self, now: float) -> dict[str, float]:
        x, y = self._place(now)
        own = {"tip_x": x, "tip_y": y, "height": self._surface.height(x, y), "current": self._own_current(now)}
        return {**self.settings(), **own, "temperature": self._temperature.at(now)}

    # -- physics ------------------------------------------------------------------------------------------------------

    def _place(self, now: float) -> tuple[float, float]:
        """Where the tip is: on its way to where it was sent, and carried off by drift."""
        return self._x.at(now) + self._drift[0] * now, self._y.at(now) + self._drift[1] * now

    def _own_current(self, now: float) -> float:
        """What flows through this tip, in A, without noise."""
        if not (self._approached and self._bias):
            return 0.0
        return _CONDUCTANCE * self._bias * math.exp(_DECAY * self._surface.height(*self._place(now)))

    def _from_neighbours(self, now: float) -> float:
        """What the heads beside it add, in A: a share of their current, and their bias through stray capacitance."""
        total = 0.0
        if self._options.crosstalk:
            for beside in (self._index - 1, self._index + 1):
                other = self._heads[beside] if 0 <= beside < len(self._heads) else self
                if other is not self and other._bias:
                    total += other._own_current(now) + _BIAS_COUPLING * other._bias
        return self._options.crosstalk * total

    def _current(self, now: float) -> float:
        """What the amplifier shows, in A."""
        current = self._own_current(now) * (1 + self._noise.at(now)) + self._from_neighbours(now)
        if self._options.noise:
            current += _AMPLIFIER_NOISE * white(self._white_seed, now)
        return min(max(current, -_FULL_SCALE), _FULL_SCALE)

    def _waveform(self, now: float, n: int) -> list[float]:
        times = now + np.arange(n) / _WAVEFORM_RATE
        wave = self._own_current(now) * (1 + self._noise.over(times)) + self._from_neighbours(now)
        if self._options.noise:
            wave += _AMPLIFIER_NOISE * self._white_noise(now).standard_normal(n)
        return [float(current) for current in np.clip(wave, -_FULL_SCALE, _FULL_SCALE)]

    def _image(self, now: float, width: int, height: int) -> npt.NDArray[np.float32]:
        x, y = self._place(now)
        across, down = (np.linspace(-0.5, 0.5, n) * self._frame for n in (width, height))
        heights = self._surface.heights(x + across, y + down)
        scale = _CONDUCTANCE * self._bias * self._approached
        lines = 1 + self._noise.over(now + np.arange(height) * (width / _PIXEL_RATE))
        image = np.exp(np.float32(_DECAY) * heights) * (scale * lines).astype(np.float32)[:, np.newaxis]
        if self._options.noise:
            noise = self._white_noise(now).standard_normal(_NOISE_LENGTH, dtype=np.float32)
            image += np.resize(noise * np.float32(_AMPLIFIER_NOISE), image.shape)
        image += np.float32(self._from_neighbours(now))
        return np.asarray(np.clip(image, -_FULL_SCALE, _FULL_SCALE, out=image), dtype=np.float32)

    def _white_noise(self, now: float) -> np.random.Generator:
        return np.random.default_rng((self._white_seed, int(now * 1e9)))

    def _withdraw(self, now: float) -> None:
        if self._approached:
            self._approached = False
            self._done = max(self._done, now + _TIP_TRAVEL)

    # -- commands -----------------------------------------------------------------------------------------------------

    @command("BIAS", Number("bias", "V", -10, 10), kind="set", safe=lambda bias: bias == 0)
    def _set_bias(self, now: float, bias: float) -> Answer:
        """Sets the bias between tip and surface."""
        self._bias = bias
        return None

    @command("BIAS?", answers="V")
    def _get_bias(self, now: float) -> Answer:
        """The bias."""
        return number(self._bias)

    @command("POSition", Number("x", "nm", 0, 1e4), Number("y", "nm", 0, 1e4), kind="set")
    def _set_position(self, now: float, x: float, y: float) -> Answer:
        """Sends the tip to a place, which it nears exponentially; `*OPC?` tells when it has settled. Beyond the
        surface (`--size`) is out of range."""
        if max(x, y) > self._options.size:
            raise Refused(-222)
        if (x, y) != (self._x.target, self._y.target):
            self._x.aim(x, now)
            self._y.aim(y, now)
            self._done = max(self._done, now + self._options.settling)
        return None

    @command("POSition?", answers="nm,nm")
    def _get_position(self, now: float) -> Answer:
        """Where the scanner is by its own sensors, which know nothing of drift."""
        return b"%.4f,%.4f" % (self._x.at(now), self._y.at(now))

    @command("FRAMe", Number("side", "nm", 0.1, 1000), kind="set")
    def _set_frame(self, now: float, side: float) -> Answer:
        """Sets the side of images, whose middle is the position."""
        self._frame = side
        return None

    @command("FRAMe?", answers="nm")
    def _get_frame(self, now: float) -> Answer:
        """The side of images."""
        return number(self._frame)

    @command("MEASure:CURRent?", kind="measure", answers="A")
    def _measure_current(self, now: float) -> Answer:
        """Measures the current at once, settled or not."""
        return number(self._current(now))

    @command(
        "MEASure:IMAGe?",
        Number("w", "", 1, _LARGEST_IMAGE, whole=True),
        Number("h", "", 1, _LARGEST_IMAGE, whole=True),
        kind="measure",
        answers="block: h × w currents in A, little-endian float32, row by row",
    )
    def _measure_image(self, now: float, width: float, height: float) -> Answer:
        """Takes an image of the current around the position."""
        return block(self._image(now, int(width), int(height)).astype("<f4", copy=False).tobytes())

    @command(
        "MEASure:WAVeform?",
        Number("n", "", 1, _LARGEST_WAVEFORM, whole=True),
        kind="measure",
        answers="n currents in A, separated by commas",
    )
    def _measure_waveform(self, now: float, n: float) -> Answer:
        """Records the current, 10 000 samples per second."""
        return b",".join(map(number, self._waveform(now, int(n))))

    @command("TEMPerature?", answers="°C")
    def _get_temperature(self, now: float) -> Answer:
        """The temperature of the head."""
        return b"%.3f" % (self._temperature.at(now) + self._thermal_noise.at(now))

    @command("TIP:WITHdraw", kind="set", safe=lambda: True)
    def _withdraw_tip(self, now: float) -> Answer:
        """Takes the tip off the surface: no current flows. So it is at power-on."""
        self._withdraw(now)
        return None

    @command("TIP:APPRoach", kind="set")
    def _approach_tip(self, now: float) -> Answer:
        """Brings the tip to the surface, in 0.05 s; `*OPC?` tells when it is there."""
        if not self._approached:
            self._approached = True
            self._done = max(self._done, now + _TIP_TRAVEL)
        return None

    @command("TIP?", answers="`APPROACHED` or `WITHDRAWN`")
    def _get_tip(self, now: float) -> Answer:
        """Where the tip is."""
        return b"APPROACHED" if self._approached else b"WITHDRAWN"
