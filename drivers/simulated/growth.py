"""How a plant grows: logistic, at a rate that follows the climate.

``dB/dt = r B (1 - B/K) - m B`` (Verhulst 1838, with maintenance respiration after Amthor, Ann. Bot. 86, 1, 2000), where
``r = r_max f(T) f(L) f(C) f(D)``:

- temperature: the beta function of Yan & Hunt, Ann. Bot. 84, 607, 1999, with its optimum at 25 °C, 0 beyond 40 °C;
- light: saturating, ``L / (L + 250)`` for a photon flux density L in µmol m⁻² s⁻¹, relative to 500;
- carbon dioxide: saturating, ``C / (C + 300)`` for C in ppm, relative to 420;
- dryness of the air, which has stomata close: ``1 / (1 + (D / 2)²)`` for a vapour pressure deficit D in kPa (with the
  saturation pressure of Tetens, 1930), relative to 0.8 kPa;
- respiration: ``m = 0.015 / d · 2^((T - 25 °C) / 10 K)``, by day and night.

The constants are plausible ones of a small herb, fitted to no data. Within a step of constant climate the solution is
exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Climate", "Plant"]

_DAY = 86400.0
_OPTIMUM, _HOTTEST = 25.0, 40.0


@dataclass(frozen=True)
class Climate:
    """What a plant feels."""

    #: °C
    temperature: float
    #: relative, in %
    humidity: float
    #: µmol m⁻² s⁻¹
    light: float
    #: ppm
    co2: float

    @property
    def vapour_deficit(self) -> float:
        """How much more water vapour the air could hold, in kPa."""
        saturation = 0.6108 * math.exp(17.27 * self.temperature / (self.temperature + 237.3))
        return saturation * (1 - self.humidity / 100)


@dataclass(frozen=True)
class Plant:
    """What sort of plant it is."""

    #: g of dry matter at sowing, and where growth ends
    seedling: float = 0.05
    largest: float = 40.0
    #: relative growth rate per day in the standard climate (25 °C, 500 µmol m⁻² s⁻¹, 420 ppm, 0.8 kPa)
    rate: float = 0.4
    #: m² of leaf per g of dry matter
    leaf_per_mass: float = 0.02

    def growth_rate(self, climate: Climate) -> float:
        """r, per s."""
        return (
            self.rate
            / _DAY
            * _of_temperature(climate.temperature)
            * _relative(climate.light, 250, 500)
            * _relative(climate.co2, 300, 420)
            * (1 + (0.8 / 2) ** 2)
            / (1 + (climate.vapour_deficit / 2) ** 2)
        )

    def grow(self, mass: float, climate: Climate, seconds: float) -> float:
        """The mass in g after some time in a constant climate."""
        growth = self.growth_rate(climate)
        net = growth - 0.015 / _DAY * 2 ** ((climate.temperature - 25) / 10)
        crowding = growth / self.largest * mass
        if abs(net * seconds) < 1e-12:
            return mass / (1 + crowding * seconds)
        factor = math.exp(net * seconds)
        return net * mass * factor / (net + crowding * (factor - 1))

    def leaf_area(self, mass: float) -> float:
        """m²; the larger the plant, the smaller the leaves' share of it (allometry, with the power 0.9)."""
        return self.leaf_per_mass * math.pow(mass, 0.9)


def _of_temperature(temperature: float) -> float:
    if not 0 < temperature < _HOTTEST:
        return 0.0
    power = _OPTIMUM / (_HOTTEST - _OPTIMUM)
    return (_HOTTEST - temperature) / (_HOTTEST - _OPTIMUM) * math.pow(temperature / _OPTIMUM, power)


def _relative(value: float, half: float, standard: float) -> float:
    """A saturating response, 1 at the standard value."""
    return value / (value + half) * (standard + half) / standard
