"""An Alicat dual-valve pressure controller that blows up the piston of the bench's press.

Source: the public alicat and labmcp-alicat packages. Lines of ASCII ended by CR both ways, 19200
8N1; every request begins with the unit's letter, and other letters' requests are not answered:

    A             pressure, set point, words of status
    AS15.44       set point                  ALS      set point now and as asked for
    A$$H  A$$C    hold both valves closed (the pressure is trapped), cancel the hold
    A$$PC         tare the gauge pressure    A$$L  A$$U  lock, unlock the buttons
    AR122  AW122=38   control point: 34 absolute, 38 gauge, 39 differential pressure
    ASR 5 4       largest ramp of the set point in units per 3 ms 4 s 5 min 6 h 7 d; 0 for none
    ALSRC 1 1 1 0 whether it ramps up, down, to zero, at power-up
    AVE           firmware

What it does not understand or cannot do answers ``?``. There is no watchdog. The force on the stack
is the gauge pressure on the piston's area, less what friction takes. As recalled, never verified:
the numbers in the answers to ``ALS`` and ``ASR`` behind the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_ATMOSPHERE_PA = 101_325.0
_ABSOLUTE, _GAUGE, _DIFFERENTIAL = 34, 38, 39
#: Engineering units in Pa, with their number in answers.
_UNITS = {"PSI": (6894.757, 10), "BAR": (1e5, 7), "KPA": (1e3, 5)}
_PER_S = {3: 1e3, 4: 1.0, 5: 1 / 60, 6: 1 / 3600, 7: 1 / 86400}
_TIME_NAMES = {3: "ms", 4: "s", 5: "m", 6: "h", 7: "d"}
#: Without a ramp the valves fill or vent the whole range in this time.
_SLEW_S = 2.0
#: Fractions of the full scale: noise, and where a reading is over range.
_NOISE, _OVER_RANGE = 1e-4, 1.02
_TARE_MAX = 0.02
_NUMBER = r"([+-]?\d{1,7}(?:\.\d{0,6})?)"


class AlicatEmulator(LineEmulator):
    """The pressure controller.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of its noise and of its zero.
        unit: Its letter.
        full_scale_Pa: End of its range.
        engineering_unit: ``PSI``, ``BAR`` or ``KPA``: what its numbers count.
        control_point: Which pressure it controls and shows, as somebody left it.
        piston_area_m2: By default such that the full range gives what the press can do.
        efficiency: What is left of the force after friction.
    """

    ends: ClassVar[bytes] = b"\r"

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        unit: str = "A",
        full_scale_Pa: float = 150 * 6894.757,
        engineering_unit: str = "PSI",
        control_point: int = _ABSOLUTE,
        piston_area_m2: float | None = None,
        efficiency: float = 0.97,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._press = world.press
        self._rng = random_stream(seed, name)
        self._letter, self._unit_name = unit.upper(), engineering_unit.upper()
        self._unit_Pa, self._unit_number = _UNITS[self._unit_name]
        self._full_scale_Pa = full_scale_Pa
        area_m2 = piston_area_m2 or self._press.max_force_N / full_scale_Pa / efficiency
        self._force_per_Pa = area_m2 * efficiency
        self._control_point = control_point
        self._setpoint_Pa = _ATMOSPHERE_PA if control_point == _ABSOLUTE else 0.0
        self._offset_Pa = self._rng.gauss(0.0, 1e-3 * full_scale_Pa)
        self._tare_Pa = 0.0
        self._ramp, self._ramp_time = 0.0, 4
        self._ramps = [True, True, True, False]
        self._held = self._locked = False
        self._patterns: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = tuple(
            (re.compile(pattern), answer)
            for pattern, answer in (
                ("", self._data),
                (rf"S ?{_NUMBER}", self._set_setpoint),
                ("LS", self._tell_setpoint),
                (r"\$\$H", self._hold),
                (r"\$\$C", self._cancel_hold),
                (r"\$\$PC", self._tare),
                (r"\$\$([LU])", self._lock),
                (r"R122", self._tell_control_point),
                (r"W122=(\d{1,3})", self._set_control_point),
                (r"SR", self._tell_ramp),
                (rf"SR {_NUMBER} ([3-7])", self._set_ramp),
                (r"LSRC", self._tell_ramps),
                (r"LSRC ([01]) ([01]) ([01]) ([01])", self._set_ramps),
                (r"VE", lambda: f"{self._letter} 10v05.0-R24 PCD"),
            )
        )

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the controller that a bench file's options describe.

        Options: ``unit`` (letter), ``full_scale`` (150 psi as ``10.3 bar``), ``pressure_unit``,
        ``piston_area``, ``efficiency``.
        """
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            unit=bench.text("unit", "A"),
            full_scale_Pa=bench.quantity("full_scale", "pressure", 150 * 6894.757),
            engineering_unit=bench.text("pressure_unit", "PSI").upper(),
            piston_area_m2=bench.quantity("piston_area", "area", 0.0) or None,
            efficiency=bench.quantity("efficiency", "fraction", 0.97),
        )

    # ------------------------------------------------------------------ lines

    def _line(self, text: str) -> None:
        request = text.strip("\n ").upper()
        if request[:1] != self._letter:
            return
        self._world.advance_to(self._timebase.now())
        for pattern, answer in self._patterns:
            if match := pattern.fullmatch(request[1:]):
                self._send(f"{answer(*match.groups())}\r".encode("ascii"))
                return
        self._send(b"?\r")

    def _data(self) -> str:
        pressure_Pa = self._pressure_Pa()
        words = [self._number(pressure_Pa), self._number(self._setpoint_Pa)]
        if pressure_Pa > _OVER_RANGE * self._full_scale_Pa:
            words.append("POV")
        if self._press.over_force:
            words.append("OPL")
        if self._held:
            words.append("HLD")
        if self._locked:
            words.append("LCK")
        return " ".join([self._letter, *words])

    def _number(self, pressure_Pa: float) -> str:
        return f"{pressure_Pa / self._unit_Pa:+07.2f}"

    # ------------------------------------------------------------------ set point and hold

    def _set_setpoint(self, text: str) -> str:
        wanted_Pa = float(text) * self._unit_Pa
        if not 0.0 <= wanted_Pa <= self._full_scale_Pa:
            return "?"
        rising = wanted_Pa >= self._setpoint_Pa
        self._setpoint_Pa = wanted_Pa
        if not self._held:
            self._go(rising=rising)
        return self._data()

    def _go(self, *, rising: bool) -> None:
        """Move towards the set point, at the ramp's rate where the ramp applies."""
        gauge_Pa = max(0.0, self._setpoint_Pa - self._base_Pa)
        up, down, to_zero, _ = self._ramps
        applies = to_zero if self._setpoint_Pa == 0.0 else up if rising else down
        rate_Pa_per_s = self._full_scale_Pa / _SLEW_S
        if applies and self._ramp > 0.0:
            rate_Pa_per_s = self._ramp * self._unit_Pa * _PER_S[self._ramp_time]
        self._press.clear_over_force()
        self._press.ramp_to(gauge_Pa * self._force_per_Pa, rate_Pa_per_s * self._force_per_Pa)

    def _tell_setpoint(self) -> str:
        now_Pa = self._press.setpoint_N / self._force_per_Pa + self._base_Pa
        if not self._press.moving:
            now_Pa = self._setpoint_Pa
        now, asked = self._number(now_Pa), self._number(self._setpoint_Pa)
        return f"{self._letter} {now} {asked} {self._unit_number} {self._unit_name}"

    def _hold(self) -> str:
        self._held = True
        self._press.stop()
        return self._data()

    def _cancel_hold(self) -> str:
        if self._held:
            self._held = False
            self._go(rising=True)
        return self._data()

    def _set_ramp(self, rate: str, time: str) -> str:
        if float(rate) < 0.0:
            return "?"
        self._ramp, self._ramp_time = float(rate), int(time)
        return self._tell_ramp()

    def _tell_ramp(self) -> str:
        unit = f"{self._unit_name}/{_TIME_NAMES[self._ramp_time]}"
        return f"{self._letter} {self._ramp:.2f} {self._unit_number} {self._ramp_time} {unit}"

    def _set_ramps(self, *flags: str) -> str:
        self._ramps = [flag == "1" for flag in flags]
        return self._tell_ramps()

    def _tell_ramps(self) -> str:
        return " ".join([self._letter, *(str(int(flag)) for flag in self._ramps)])

    # ------------------------------------------------------------------ what it measures

    @property
    def _base_Pa(self) -> float:
        """What the chosen pressure reads in the open air."""
        return _ATMOSPHERE_PA if self._control_point == _ABSOLUTE else 0.0

    def _pressure_Pa(self) -> float:
        gauge_Pa = self._press.force_N / self._force_per_Pa
        noise_Pa = self._rng.gauss(0.0, _NOISE * self._full_scale_Pa)
        tare_Pa = 0.0 if self._control_point == _ABSOLUTE else self._tare_Pa
        return gauge_Pa + self._base_Pa + self._offset_Pa - tare_Pa + noise_Pa

    def _tare(self) -> str:
        """Make the present gauge pressure zero: near the open air's alone."""
        shown_Pa = self._pressure_Pa()
        if self._control_point == _ABSOLUTE or abs(shown_Pa) > _TARE_MAX * self._full_scale_Pa:
            return "?"
        self._tare_Pa += shown_Pa
        return self._data()

    def _tell_control_point(self) -> str:
        return f"{self._letter} 122={self._control_point}"

    def _set_control_point(self, number: str) -> str:
        """Choose another pressure; the set point keeps its number, as on the instrument."""
        if int(number) not in {_ABSOLUTE, _GAUGE, _DIFFERENTIAL}:
            return "?"
        if int(number) != self._control_point:
            self._control_point = int(number)
            if not self._held and self._press.force_N > 0.0:
                self._go(rising=True)
        return self._tell_control_point()

    def _lock(self, letter: str) -> str:
        self._locked = letter == "L"
        return self._data()
