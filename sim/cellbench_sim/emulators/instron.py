"""An Instron 8800 servo-hydraulic frame in stress control, on the bench's press.

Source: the protocol of the public EPICS support (devinstron.proto) and its notes. ASCII lines ended
by CR LF: ``Q<n>[,args]`` asks and is answered by one line; ``C<n>,args`` commands and ``P909,x``
chooses who commands, without any answer. Commands are taken under computer control alone
(``P909,1``), which falls back to the front panel 3 s after the last ``C904,0``; otherwise the frame
answers with a line of refusal, which nobody had asked for.

Channels are 1 position, 2 stress, 3 strain, in raw units of their scale: position in m is
``raw * scale``, stress in MPa is ``raw * scale / area in mm2``. The set point of a started waveform
is reached in the channel's step time. Only the stress channel drives the bench's press; in the
others the actuator keeps its position, as a closed valve does. There is no waveform generator, and
no dual ramps, trapezia or rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.emulators.load_cell import LoadCell
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

REFUSAL = "Not in the correct control mode to execute that command!"
_WATCHDOG_S = 3.0
#: A frame that is put under computer control with a stale watchdog notices it this much later.
_WATCHDOG_PERIOD_S = 0.1
_POSITION, _STRESS, _STRAIN = 1, 2, 3
_POSITION_SCALE_M, _STRAIN_SCALE_M = 0.05, 0.005
#: Without hydraulic pressure the full force is gone within this time; a hold reaches its level so.
_DEPRESSURISE_S, _HOLD_SLEW_S = 2.5, 2.0
_STATUS_OK, _STATUS_E_STOP, _ACTUATOR_OFF = 15, 3, 1 << 3
_WAVEFORM_TYPES = range(6)


class Movement(IntEnum):
    """Answers to ``Q1``."""

    STOPPED = 0
    RAMP = 1
    HOLDING = 2


class Waveform(IntEnum):
    """Waveform types that can be started here."""

    RAMP = 0
    ABSOLUTE_RAMP = 3
    ABSOLUTE_HOLD = 4


class _Channel:
    """The settings of one control channel; the set point is raw."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.waveform = int(Waveform.ABSOLUTE_RAMP)
        self.setpoint = 0.0
        self.step_s = 1.0


class InstronEmulator(LineEmulator):
    """The frame that presses the stack.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the load cell's noise.
        area_mm2: Area at the start, as somebody left it on the panel.
        compression: Which sign compression has on the stress channel.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        area_mm2: float = 78.54,
        compression: Literal[1, -1] = 1,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._press = world.press
        self._capacity_N = world.press.max_force_N
        self._cell = LoadCell(world, random_stream(seed, name), self._capacity_N, noise=1e-4)
        self._sign = compression
        self._channels = {
            _POSITION: _Channel(_POSITION_SCALE_M),
            _STRESS: _Channel(self._capacity_N),
            _STRAIN: _Channel(_STRAIN_SCALE_M),
        }
        self._control, self._computer = _POSITION, False
        self._area_mm2, self._length_mm = area_mm2, 10.0
        self._refreshed_s = -math.inf
        self._actuator = True
        self._status_code: int | None = None
        self._movement = Movement.STOPPED
        self._hold_until_s = 0.0
        self._ramp: tuple[float, float] = (0.0, 1.0)
        self._queries = self._query_table()
        self._commands = self._command_table()

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the frame that a bench file's options describe: ``compression`` positive or not."""
        compression = BenchOptions(options).compression
        return cls(name, timebase, world, seed=seed, compression=compression)

    # ------------------------------------------------------------------ faults to be set

    @property
    def fault(self) -> int | None:
        """Status code that keeps the hydraulics off (3 emergency stop, 8 oil low ...), or None."""
        return self._status_code

    @fault.setter
    def fault(self, code: int | None) -> None:
        self._advance()
        self._status_code = code
        if code is not None:
            self._depressurise()

    def press_e_stop(self) -> None:
        """Press the emergency stop; ``fault = None`` releases it."""
        self.fault = _STATUS_E_STOP

    # ------------------------------------------------------------------ lines

    def _line(self, text: str) -> None:
        letter, *arguments = text.strip()[:1], *text.strip()[1:].split(",")
        try:
            number, values = int(arguments[0]), [float(each) for each in arguments[1:]]
        except ValueError:
            return
        self._advance()
        if not all(map(math.isfinite, values)):
            return
        if letter == "Q" and number in self._queries:
            self._answer(number, values)
        elif letter == "P" and number == 909 and values in ([0.0], [1.0]):
            self._set_computer(on=values == [1.0])
        elif letter == "C":
            self._command(number, values)

    def _answer(self, number: int, values: Sequence[float]) -> None:
        try:
            self._say(self._queries[number](values))
        except (KeyError, IndexError):
            return

    def _command(self, number: int, values: list[float]) -> None:
        if number == 904:
            self._refreshed_s = self._timebase.now()
        elif not self._computer:
            self._say(REFUSAL)
        elif number in self._commands:
            try:
                self._commands[number](values)
            except (KeyError, IndexError):
                # A channel or an argument that does not exist changes nothing, and nobody says so.
                return

    # ------------------------------------------------------------------ who commands

    def _set_computer(self, *, on: bool) -> None:
        watched, self._computer = self._computer, on
        if on and not watched:
            self._watch_computer(self._timebase.now() + _WATCHDOG_PERIOD_S)

    def _watch_computer(self, not_before_s: float = 0.0) -> None:
        """Give command back to the panel once the computer has not refreshed its watchdog."""
        if not self._computer:
            return
        due_s = max(self._refreshed_s + _WATCHDOG_S, not_before_s)
        if due_s > self._timebase.now():
            self._call_at(due_s, self._watch_computer)
        else:
            self._computer = False

    # ------------------------------------------------------------------ queries

    def _query_table(self) -> dict[int, Callable[[Sequence[float]], str]]:
        channels = self._channels
        return {
            1: lambda _: str(int(self._moving())),
            2: lambda v: str(channels[int(v[0])].waveform),
            4: lambda v: f"{channels[int(v[0])].setpoint:.9g}",
            22: lambda _: str(self._status()),
            23: lambda _: str(int(self._is_actuator_on())),
            86: lambda v: f"{channels[int(v[0])].step_s:.6g}",
            134: lambda v: f"{self._actual(int(v[0])):.6f}",
            300: lambda _: str(self._control),
            307: lambda v: "0,2" if int(v[0]) in channels else "0,0",
            308: lambda v: f"{channels[int(v[0])].scale:.6g}",
            340: lambda _: f"{self._length_mm:.6g}",
            341: lambda _: f"{self._area_mm2:.6g}",
            904: lambda _: str(int(self._timebase.now() < self._refreshed_s + _WATCHDOG_S)),
            909: lambda _: str(int(self._computer)),
        }

    def _moving(self) -> Movement:
        """Say what goes on; a waveform that has reached its end has stopped."""
        if self._movement is Movement.RAMP and not self._press.moving:
            self._movement = Movement.STOPPED
        if self._movement is Movement.HOLDING and self._timebase.now() >= self._hold_until_s:
            self._movement = Movement.STOPPED
        return self._movement

    def _status(self) -> int:
        code = _STATUS_OK if self._status_code is None else self._status_code
        return code << 9 | (0 if self._is_actuator_on() else _ACTUATOR_OFF)

    def _is_actuator_on(self) -> bool:
        """The load limit of the panel switches the actuator off, until the pressure is back."""
        if self._press.over_force:
            self._actuator, self._movement = False, Movement.STOPPED
        return self._actuator

    def _actual(self, channel: int) -> float:
        scale = self._channels[channel].scale
        if channel == _POSITION:
            return self._press.position_m / scale
        return self._sign * self._cell.reading_N() / scale if channel == _STRESS else 0.0

    # ------------------------------------------------------------------ commands

    def _command_table(self) -> dict[int, Callable[[Sequence[float]], None]]:
        return {
            1: self._move,
            2: self._set_waveform,
            4: self._set_setpoint,
            23: self._set_pressure,
            86: self._set_step,
            300: self._set_control,
            340: self._set_length,
            341: self._set_area,
        }

    def _set_waveform(self, values: Sequence[float]) -> None:
        if int(values[1]) in _WAVEFORM_TYPES:
            self._channels[int(values[0])].waveform = int(values[1])

    def _set_setpoint(self, values: Sequence[float]) -> None:
        """Take a raw set point; beyond full scale is full scale."""
        self._channels[int(values[0])].setpoint = max(-1.0, min(1.0, values[1]))

    def _set_step(self, values: Sequence[float]) -> None:
        if values[1] > 0.0:
            self._channels[int(values[0])].step_s = values[1]

    def _set_area(self, values: Sequence[float]) -> None:
        if int(values[0]) == _STRESS and values[1] > 0.0:
            self._area_mm2 = values[1]

    def _set_length(self, values: Sequence[float]) -> None:
        if int(values[0]) == _STRAIN and values[1] > 0.0:
            self._length_mm = values[1]

    def _set_control(self, values: Sequence[float]) -> None:
        if int(values[0]) not in self._channels or not self._is_actuator_on():
            return
        self._control, self._movement = int(values[0]), Movement.STOPPED
        self._stay()

    def _set_pressure(self, values: Sequence[float]) -> None:
        """``C23,0``: hydraulic pressure off now; ``C23,1``: on again, in position control."""
        if values[0] == 0.0:
            self._depressurise()
        elif values[0] == 1.0 and self._status_code is None:
            self._actuator, self._control = True, _POSITION
            self._press.clear_over_force()

    def _move(self, values: Sequence[float]) -> None:
        if not self._is_actuator_on():
            return
        action = {0: self._stop, 1: self._start, 2: self._pause, 3: self._go_on}[int(values[0])]
        action()

    def _start(self) -> None:
        channel = self._channels[_STRESS]
        if self._control != _STRESS or channel.waveform not in list(Waveform):
            return
        wanted_N = self._sign * channel.setpoint * channel.scale
        if channel.waveform == Waveform.RAMP:
            wanted_N += self._press.force_N
        # A stack can be pressed, not pulled.
        wanted_N = max(0.0, wanted_N)
        if channel.waveform == Waveform.ABSOLUTE_HOLD:
            self._hold_until_s = self._timebase.now() + channel.step_s
            self._movement = Movement.HOLDING
            self._press.ramp_to(wanted_N, self._capacity_N / _HOLD_SLEW_S)
            return
        rate_N_per_s = abs(wanted_N - self._press.force_N) / channel.step_s
        self._ramp = wanted_N, max(rate_N_per_s, 1e-3)
        self._go_on()

    def _go_on(self) -> None:
        if self._control == _STRESS:
            self._movement = Movement.RAMP
            self._press.ramp_to(*self._ramp)

    def _pause(self) -> None:
        self._movement, self._hold_until_s = Movement.HOLDING, math.inf
        self._stay()

    def _stop(self) -> None:
        self._movement = Movement.STOPPED
        self._stay()

    def _stay(self) -> None:
        if self._control == _STRESS:
            self._press.hold()
        else:
            self._press.stop()

    def _depressurise(self) -> None:
        self._actuator, self._movement = False, Movement.STOPPED
        self._press.unload(self._capacity_N / _DEPRESSURISE_S)

    def _advance(self) -> None:
        self._world.advance_to(self._timebase.now())
