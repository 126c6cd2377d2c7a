"""The inside of a growth chamber: its climate by its controls, and the plant that grows in it.

Temperature, humidity and carbon dioxide near their targets exponentially, at a pace that each cabinet has for itself:
the set-points while it runs, the room's climate when the door is open or it stands by. The lamps heat a little. A
limiter cuts everything off above the temperature limit and stays off until it is reset.

All is exact at any time, and growth is integrated from one change of the controls to the next in steps that readings do
not shift: two cabinets told the same at the same times grow the same, however often one is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskmaster.drivers.simulated.growth import Climate, Plant
from taskmaster.drivers.simulated.relaxation import Relaxation

__all__ = ["Cabinet", "Controls"]

#: What the room is like in which the chambers stand.
_ROOM = Climate(temperature=21.0, humidity=45.0, light=0.0, co2=430.0)
#: The set-points at power-on.
_INITIAL = Climate(temperature=22.0, humidity=60.0, light=0.0, co2=420.0)
#: Time constants of temperature, humidity and CO2 in s, each with the door closed and open.
_TAUS = ((600.0, 120.0), (300.0, 60.0), (240.0, 45.0))
#: How much the lamps heat, in K at 1000 µmol m⁻² s⁻¹.
_LAMP_HEAT = 1.5
#: Where a heater leads that is stuck, in °C.
_STUCK_HEATER = 65.0
#: Seconds of a step of growth: short beside the course of a day, long beside the cost of computing one.
_STEP = 300.0


@dataclass(frozen=True)
class Controls:
    """What acts on the climate."""

    goal: Climate = _INITIAL
    #: it conditions the air and lights the lamps
    running: bool = False
    #: the limiter cuts off above this, in °C
    limit: float = 45.0
    door_open: bool = False
    heater_stuck: bool = False


class Cabinet:
    """A cabinet with one plant, over simulated time in s, which never goes back."""

    def __init__(self, plant: Plant, paces: Sequence[float], now: float) -> None:
        """``paces`` (3,) scale the time constants of temperature, humidity and CO2."""
        self.controls = Controls()
        #: the limiter has cut off
        self.tripped = False
        self._plant = plant
        self._paces = paces
        self._air = [Relaxation(v, v, 1.0, now) for v in (_ROOM.temperature, _ROOM.humidity, _ROOM.co2)]
        self._mass, self._grown_until = plant.seedling, now
        self._regulate(now)

    def change(self, now: float, controls: Controls) -> None:
        """Work the controls."""
        self._commit(now)
        self.controls = controls
        self._regulate(now)

    def reset_limiter(self, now: float) -> None:
        """Let it run again; too hot, it trips again at once."""
        self._commit(now)
        self.tripped = False
        self._regulate(now)

    def sow(self, now: float) -> None:
        """Replace the plant by a seedling."""
        self._commit(now)
        self._mass = self._plant.seedling

    def climate(self, now: float) -> Climate:
        """What the plant feels."""
        self.look(now)
        return self._climate(now)

    def mass(self, now: float) -> float:
        """The plant's dry matter in g."""
        self.look(now)
        self._grow(now)
        return self._plant.grow(self._mass, self._midway(now), now - self._grown_until)

    def leaf_area(self, now: float) -> float:
        """The plant's leaves in m²."""
        return self._plant.leaf_area(self.mass(now))

    def look(self, now: float) -> None:
        """Find out whether the limiter has cut off in the meantime."""
        crossed = self._air[0].reaches(self.controls.limit)
        if not self.tripped and crossed <= now:
            self._commit_growth(crossed)
            self.tripped = True
            self._regulate(crossed)

    # -- the climate --------------------------------------------------------------------------------------------------

    @property
    def _conditions(self) -> bool:
        return self.controls.running and not self.tripped

    @property
    def _light(self) -> float:
        return self.controls.goal.light if self._conditions else 0.0

    def _regulate(self, now: float) -> None:
        controls = self.controls
        target = _ROOM if controls.door_open or not self._conditions else controls.goal
        temperature = target.temperature + _LAMP_HEAT * self._light / 1000
        if controls.heater_stuck and not self.tripped:
            temperature = _STUCK_HEATER
        targets = (temperature, target.humidity, target.co2)
        for air, aim, taus, pace in zip(self._air, targets, _TAUS, self._paces, strict=True):
            air.aim(aim, now, taus[controls.door_open] * pace)

    def _climate(self, now: float) -> Climate:
        temperature, humidity, co2 = (air.at(now) for air in self._air)
        return Climate(temperature, humidity, self._light, co2)

    # -- growth -------------------------------------------------------------------------------------------------------

    def _commit(self, now: float) -> None:
        self.look(now)
        self._commit_growth(now)

    def _commit_growth(self, now: float) -> None:
        """End the step that is under way: what comes next happens under other conditions."""
        self._grow(now)
        self._mass = self._plant.grow(self._mass, self._midway(now), now - self._grown_until)
        self._grown_until = now

    def _grow(self, now: float) -> None:
        """Take all whole steps up to now."""
        while self._grown_until + _STEP <= now:
            self._mass = self._plant.grow(self._mass, self._midway(self._grown_until + _STEP), _STEP)
            self._grown_until += _STEP

    def _midway(self, now: float) -> Climate:
        """The climate in the middle of the time since the last step."""
        return self._climate((self._grown_until + now) / 2)
