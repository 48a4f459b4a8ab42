"""A SCPI multiplexer: relays that connect the leads of one potentiostat to several cells.

Speaks what switch systems have in common: ``ROUTe:CLOSe``, ``ROUTe:OPEN``, ``ROUTe:OPEN:ALL``,
``ROUTe:CLOSe?`` (the list of closed channels, or with a list the state of each),
``ROUTe:CLOSe:STATe?``, ``ROUTe:OPEN?``; ``ROUTe:MULTiple`` does the same. Channels are ``(@101)``,
``(@101,103)``, ``(@101:104)``: slot and two digits. ``*RST`` opens all. Source: user's manuals of
the Keithley 2700 series and of VXI multiplexers of Agilent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Self

from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.scpi import Call, Event, ScpiError, Steps, channel_list
from cellbench_sim.emulators.scpi_device import ScpiEmulator
from cellbench_sim.world import World

_QUEUE = 10
_SLOTS, _PER_SLOT = 1, 20
#: How long relays take to open or to close and stop bouncing (assumed, of reed relays' class).
_RELAY_S = 3e-3


def _ignore(_: frozenset[str]) -> None:
    """Do nothing with the channels that are closed."""


class ScpiSwitchEmulator(ScpiEmulator):
    """The multiplexer.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system, which it does not act on by itself.
        seed: Seed of its serial number.
        slots: How many modules it has.
        per_slot: Channels of each module, numbered from 1.
        positions: Channels (``101,102``) by the name of the cell that they connect; their channels
            exist, whatever `slots` and `per_slot` say.
        on_change: Called with the closed channels whenever relays have moved.

    Attributes:
        on_change: The same; it may be replaced later.
        welded: Channels whose contacts stick once they are closed; none, unless a test says so.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World | None = None,
        *,
        seed: int,
        slots: int = _SLOTS,
        per_slot: int = _PER_SLOT,
        positions: Mapping[str, str] | None = None,
        on_change: Callable[[frozenset[str]], None] = _ignore,
    ) -> None:
        super().__init__(name, timebase, queue=_QUEUE)
        self.on_change = on_change
        self.welded: frozenset[str] = frozenset()
        self._world = world
        self._serial = 1_000_000 + seed % 1_000_000
        self._positions = {
            position: frozenset(_channels_of(position, text))
            for position, text in (positions or {}).items()
        }
        numbers = {
            f"{slot}{channel:02d}"
            for slot in range(1, slots + 1)
            for channel in range(1, per_slot + 1)
        }
        self._channels = numbers.union(*self._positions.values())
        self._closed: frozenset[str] = frozenset()
        self._add_commands()

    @classmethod
    def from_bench(
        cls,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        options: Mapping[str, Any],
    ) -> Self:
        """Make the multiplexer that a bench file describes: ``positions`` by name."""
        positions = options.get("positions") or {}
        if not isinstance(positions, Mapping):
            raise InputError(
                f"{name}: positions are names and channels, such as {{cell 1: '101,102'}}, "
                f"not {positions!r}"
            )
        texts = {str(position): str(text) for position, text in positions.items()}
        return cls(name, timebase, world, seed=seed, positions=texts)

    @property
    def closed(self) -> frozenset[str]:
        """The channels whose relays are closed."""
        return self._closed

    @property
    def positions(self) -> Mapping[str, bool]:
        """Whether all channels of a position are closed, by its name."""
        return {name: channels <= self._closed for name, channels in self._positions.items()}

    @property
    def _identity(self) -> str:
        return f"KEITHLEY INSTRUMENTS INC.,MODEL 2700,{self._serial},B09  /A02"

    def _format_event(self, event: Event | None) -> str:
        return f'{event.code:+d},"{event.text}"' if event else '0,"No error"'

    def _reset(self) -> None:
        self._move(frozenset())

    # ------------------------------------------------------------------ commands

    def _add_commands(self) -> None:
        add, route = self.commands.add, "[ROUTe:][MULTiple:]"
        add(f"{route}CLOSe", self._close, 1)
        add(f"{route}OPEN", self._open, 1)
        add(f"{route}OPEN:ALL", lambda _: self._take(frozenset()))
        add(f"{route}CLOSe?", self._closed_or_state, 0, 1)
        add(f"{route}CLOSe:STATe?", self._state, 1)
        add(f"{route}OPEN?", self._opened, 1)
        add("STATus:PRESet", lambda _: None)

    def _named(self, call: Call) -> list[str]:
        channels = channel_list(call.raw(0))
        if not set(channels) <= self._channels:
            raise ScpiError(-222)
        return channels

    def _close(self, call: Call) -> Steps:
        return self._take(self._closed | set(self._named(call)))

    def _open(self, call: Call) -> Steps:
        return self._take(self._closed - set(self._named(call)))

    def _take(self, closed: frozenset[str]) -> Steps:
        """Move relays, and go on when they have."""
        if closed != self._closed:
            yield self._timebase.now() + _RELAY_S
            self._move(closed)
        return None

    def _move(self, closed: frozenset[str]) -> None:
        closed |= self._closed & self.welded
        if closed == self._closed:
            return
        if self._world is not None:
            self._world.advance_to(self._timebase.now())
        self._closed = closed
        self.on_change(closed)

    def _closed_or_state(self, call: Call) -> str:
        if len(call):
            return self._state(call)
        return f"(@{','.join(sorted(self._closed, key=int))})"

    def _state(self, call: Call) -> str:
        return ",".join(str(int(channel in self._closed)) for channel in self._named(call))

    def _opened(self, call: Call) -> str:
        return ",".join(str(int(channel not in self._closed)) for channel in self._named(call))


def _channels_of(position: str, text: str) -> list[str]:
    """Return the channels of a position; they may be written as in a command."""
    inside = re.sub(r"[(@)\s]", "", text)
    try:
        channels = channel_list(f"(@{inside})")
    except ScpiError:
        channels = []
    if not channels:
        raise InputError(f"position {position}: {text!r} is no channels, such as '101,102'")
    return channels
