"""What an instrument can do, as its driver declares it; planning checks protocols against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: What holds the stack. A servo and a laboratory press keep a force, the one for stack pressures
#: and the other for pressing pellets; a screw keeps the gap, so that its force follows the stack.
FixtureKind: TypeAlias = Literal["servo", "laboratory press", "screw", "spring"]


@dataclass(frozen=True, slots=True)
class ImpedanceBand:
    """Frequencies that spectra can span, and the modes in which they can be taken."""

    frequency_min_Hz: float
    frequency_max_Hz: float
    potentiostatic: bool = True
    galvanostatic: bool = False


@dataclass(frozen=True, slots=True)
class ReactionTime:
    """How long after a crossing an output is off: sample + transport + decision + command."""

    sample_s: float
    transport_s: float
    command_s: float

    @property
    def total_s(self) -> float:
        """The whole, the host's decision (well under a millisecond) included."""
        return self.of_rows(0.0)

    def of_rows(self, interval_s: float) -> float:
        """The whole where the host sees one row each ``interval_s``, if that is longer."""
        return max(self.sample_s, interval_s) + self.transport_s + 0.001 + self.command_s


@dataclass(frozen=True, slots=True)
class ChannelCapabilities:
    """A potentiostat's or cycler's channel.

    Attributes:
        on_device: What the instrument ends by itself, without the host: any of ``duration``,
            ``voltage``, ``current``.
        bounded_without_host: Whether a technique, once started, ends by itself in a state that is
            safe for the cell when the host dies.
        silent_s: How long a technique goes on whose host fell silent, where the instrument does not
            end it by its duration: the time of its watchdog; infinite without one.
        spectra_in_hold: Whether spectra can be taken within a constant voltage, without opening the
            cell.
        holds_both_ways: Whether the current of a constant voltage flows in either direction, as the
            cell needs it; a cycler's hold that charges, or discharges, leaves a cell alone that
            needs the other one.
    """

    model: str
    voltage_min_V: float
    voltage_max_V: float
    current_max_A: float
    current_min_A: float
    interval_min_s: float
    techniques: frozenset[str]
    impedance: ImpedanceBand | None
    on_device: frozenset[str]
    bounded_without_host: bool
    reaction: ReactionTime
    voltage_noise_V: float
    silent_s: float = math.inf
    spectra_in_hold: bool = False
    holds_both_ways: bool = True
    unverified: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class PressCapabilities:
    """A force actuator.

    Attributes:
        heartbeat_s: Silence of the host after which it lets go; None when it does not notice.
        own_loop: Whether it keeps a force without the host. Where it does not, a silent host
            leaves the stack to a screw, a valve or a person: the force follows the stack.
    """

    model: str
    force_min_N: float
    force_max_N: float
    rate_max_N_per_s: float
    heartbeat_s: float | None
    reaction: ReactionTime
    own_loop: bool = True


@dataclass(frozen=True, slots=True)
class GaugeCapabilities:
    """A force gauge."""

    model: str
    force_max_N: float
    resolution_N: float
    interval_min_s: float


@dataclass(frozen=True, slots=True)
class ChamberCapabilities:
    """A temperature chamber or heater."""

    model: str
    temperature_min_K: float
    temperature_max_K: float
    rate_max_K_per_s: float


@dataclass(frozen=True, slots=True)
class SwitchCapabilities:
    """A multiplexer, and the positions that its bench file names."""

    model: str
    positions: tuple[str, ...]
    switching_s: float
