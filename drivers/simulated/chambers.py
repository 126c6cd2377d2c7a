"""A room of growth chambers: controllers that speak SCPI in front of simulated cabinets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from taskmaster.drivers.simulated.actions import ActionLog
from taskmaster.drivers.simulated.cabinet import Cabinet, Controls
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.growth import Plant
from taskmaster.drivers.simulated.noise import PinkNoise
from taskmaster.drivers.simulated.scpi import Answer, Instrument, Number, Refused, command

__all__ = ["Chamber", "ChamberOptions", "make_chambers"]

#: rms noise of the sensors of temperature (K), humidity (%), CO2 (ppm), biomass (relative).
_SENSOR_NOISE = (0.03, 0.4, 3.0, 0.005)


@dataclass(frozen=True)
class ChamberOptions:
    """How a room is made."""

    count: int = 12
    seed: int = 0
    #: scales the noise of all sensors
    noise: float = 1.0
    #: by how much plants and chambers differ: relative standard deviation of growth rates and time constants
    variation: float = 0.05


def make_chambers(options: ChamberOptions, clock: Clock, remembered: int = 100_000) -> list[Chamber]:
    """The chambers of a room: ``chamber-1``, ``chamber-2``, …"""
    return [Chamber(index, options, clock, ActionLog(remembered)) for index in range(options.count)]


class Chamber(Instrument):
    """One growth chamber with its controller."""

    def __init__(self, index: int, options: ChamberOptions, clock: Clock, log: ActionLog) -> None:
        rng = np.random.default_rng((options.seed, index))
        vigour, *paces = np.exp(rng.normal(0, options.variation, 4)).tolist()
        self._cabinet = Cabinet(Plant(rate=Plant.rate * vigour), paces, clock.now())
        self._noises = [
            PinkNoise((options.seed, index, i), options.noise * rms, 1e-5, 0.1) for i, rms in enumerate(_SENSOR_NOISE)
        ]
        super().__init__(f"chamber-{index + 1}", f"ACME,GROWTH-CHAMBER,{index + 1:04d},1.0", clock, log)

    def power_on(self, now: float) -> None:
        # What stands in the chamber, the door and a broken heater do not care about the controller's power.
        controls = self._cabinet.controls
        self._cabinet.change(now, Controls(door_open=controls.door_open, heater_stuck=controls.heater_stuck))

    def make_safe(self, now: float) -> None:
        self._set(now, running=False)

    def overheat(self, now: float, *, hot: bool) -> None:
        self._set(now, heater_stuck=hot)

    def settings(self) -> dict[str, float]:
        controls = self._cabinet.controls
        goal = controls.goal
        return {
            "temperature": goal.temperature,
            "humidity": goal.humidity,
            "light": goal.light,
            "co2": goal.co2,
            "running": float(controls.running),
        }

    def truth(self, now: float) -> dict[str, float]:
        climate, controls = self._cabinet.climate(now), self._cabinet.controls
        return {
            "temperature": climate.temperature,
            "humidity": climate.humidity,
            "light": climate.light,
            "co2": climate.co2,
            "biomass": self._cabinet.mass(now),
            "running": float(controls.running),
            "door_open": float(controls.door_open),
            "tripped": float(self._cabinet.tripped),
        }

    def _set(self, now: float, **controls: float | bool) -> None:
        self._cabinet.change(now, replace(self._cabinet.controls, **controls))  # type: ignore[arg-type]

    def _set_goal(self, now: float, **goal: float) -> None:
        controls = self._cabinet.controls
        self._cabinet.change(now, replace(controls, goal=replace(controls.goal, **goal)))

    def _noise(self, sensor: int, now: float) -> float:
        return self._noises[sensor].at(now)

    # -- set-points ---------------------------------------------------------------------------------------------------

    @command("TEMPerature:SP", Number("temperature", "°C", 4, 45), kind="set")
    def _set_temperature(self, now: float, temperature: float) -> Answer:
        """Sets the temperature to hold."""
        self._set_goal(now, temperature=temperature)
        return None

    @command("TEMPerature:SP?", answers="°C")
    def _get_temperature_goal(self, now: float) -> Answer:
        """The temperature to hold."""
        return b"%.2f" % self._cabinet.controls.goal.temperature

    @command("HUMidity:SP", Number("humidity", "%", 20, 95), kind="set")
    def _set_humidity(self, now: float, humidity: float) -> Answer:
        """Sets the relative humidity to hold."""
        self._set_goal(now, humidity=humidity)
        return None

    @command("HUMidity:SP?", answers="%")
    def _get_humidity_goal(self, now: float) -> Answer:
        """The relative humidity to hold."""
        return b"%.2f" % self._cabinet.controls.goal.humidity

    @command("LIGHT:SP", Number("light", "µmol/m²/s", 0, 1500), kind="set", safe=lambda light: light == 0)
    def _set_light(self, now: float, light: float) -> Answer:
        """Sets the light: photon flux density."""
        self._set_goal(now, light=light)
        return None

    @command("LIGHT:SP?", answers="µmol/m²/s")
    def _get_light_goal(self, now: float) -> Answer:
        """The light that is set."""
        return b"%.1f" % self._cabinet.controls.goal.light

    @command("CO2:SP", Number("co2", "ppm", 300, 2000), kind="set")
    def _set_co2(self, now: float, co2: float) -> Answer:
        """Sets the carbon dioxide to hold."""
        self._set_goal(now, co2=co2)
        return None

    @command("CO2:SP?", answers="ppm")
    def _get_co2_goal(self, now: float) -> Answer:
        """The carbon dioxide to hold."""
        return b"%.1f" % self._cabinet.controls.goal.co2

    # -- readings -----------------------------------------------------------------------------------------------------

    @command("TEMPerature?", kind="measure", answers="°C")
    def _get_temperature(self, now: float) -> Answer:
        """Measures the air's temperature."""
        return b"%.3f" % (self._cabinet.climate(now).temperature + self._noise(0, now))

    @command("HUMidity?", kind="measure", answers="%")
    def _get_humidity(self, now: float) -> Answer:
        """Measures the air's relative humidity."""
        return b"%.2f" % min(max(self._cabinet.climate(now).humidity + self._noise(1, now), 0.0), 100.0)

    @command("LIGHT?", kind="measure", answers="µmol/m²/s")
    def _get_light(self, now: float) -> Answer:
        """Measures the light at the leaves."""
        return b"%.1f" % self._cabinet.climate(now).light

    @command("CO2?", kind="measure", answers="ppm")
    def _get_co2(self, now: float) -> Answer:
        """Measures the air's carbon dioxide."""
        return b"%.1f" % (self._cabinet.climate(now).co2 + self._noise(2, now))

    @command("PLANt:MASS?", kind="measure", answers="g")
    def _get_mass(self, now: float) -> Answer:
        """Estimates the plant's dry matter."""
        return b"%.4f" % (self._cabinet.mass(now) * (1 + self._noise(3, now)))

    @command("PLANt:AREA?", kind="measure", answers="m²")
    def _get_area(self, now: float) -> Answer:
        """Measures the area of the plant's leaves."""
        return b"%.5f" % (self._cabinet.leaf_area(now) * (1 + self._noise(3, now)))

    @command("PLANt:SOW", kind="set")
    def _sow(self, now: float) -> Answer:
        """Replaces the plant by a seedling, which takes an open door."""
        if not self._cabinet.controls.door_open:
            raise Refused(-221)
        self._cabinet.sow(now)
        return None

    # -- operation ----------------------------------------------------------------------------------------------------

    @command("RUN", kind="set")
    def _run(self, now: float) -> Answer:
        """Conditions the air and lights the lamps by the set-points; refused while the limiter has cut off."""
        self._cabinet.look(now)
        if self._cabinet.tripped:
            raise Refused(-221)
        self._set(now, running=True)
        return None

    @command("STANdby", kind="set", safe=lambda: True)
    def _standby(self, now: float) -> Answer:
        """Heats, cools and lights no more. So it is at power-on."""
        self._set(now, running=False)
        return None

    @command("STATe?", answers="`RUNNING`, `STANDBY` or `TRIPPED`")
    def _get_state(self, now: float) -> Answer:
        """What it is doing."""
        self._cabinet.look(now)
        if self._cabinet.tripped:
            return b"TRIPPED"
        return b"RUNNING" if self._cabinet.controls.running else b"STANDBY"

    @command("DOOR:OPEN", kind="set")
    def _open_door(self, now: float) -> Answer:
        """Opens the door: the air becomes the room's, quickly."""
        self._set(now, door_open=True)
        return None

    @command("DOOR:CLOSe", kind="set")
    def _close_door(self, now: float) -> Answer:
        """Closes the door."""
        self._set(now, door_open=False)
        return None

    @command("DOOR?", answers="`OPEN` or `CLOSED`")
    def _get_door(self, now: float) -> Answer:
        """Whether the door is open."""
        return b"OPEN" if self._cabinet.controls.door_open else b"CLOSED"

    @command("TEMPerature:LIMit", Number("limit", "°C", 20, 60), kind="set")
    def _set_limit(self, now: float, limit: float) -> Answer:
        """Sets the temperature above which the limiter cuts everything off."""
        self._set(now, limit=limit)
        return None

    @command("TEMPerature:LIMit?", answers="°C")
    def _get_limit(self, now: float) -> Answer:
        """The limiter's temperature."""
        return b"%.2f" % self._cabinet.controls.limit

    @command("ALARm?", answers="`1` or `0`")
    def _get_alarm(self, now: float) -> Answer:
        """Whether the limiter has cut off."""
        self._cabinet.look(now)
        return b"%d" % self._cabinet.tripped

    @command("ALARm:RESet", kind="set")
    def _reset_alarm(self, now: float) -> Answer:
        """Has the limiter let it run again; still too hot, it cuts off again."""
        self._cabinet.reset_limiter(now)
        return None
