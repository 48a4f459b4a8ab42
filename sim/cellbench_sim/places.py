"""The places of a bench: where each cell is, and what every instrument acts on.

A place names its instruments as a bench file does: ``channel``, or ``cycling``, ``impedance`` and
``changeover``; ``press``, ``gauge``, ``chamber``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellbench.errors import InputError
from cellbench_sim.leads import Junction, Leads
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.physics.fixture import FIXTURES
from cellbench_sim.presets import load_preset, preset_names
from cellbench_sim.randomness import random_stream
from cellbench_sim.shared import SharedAir, SharedLeads, SharedWorlds
from cellbench_sim.world import World

#: The keys of a place that name an instrument, and those of which a cell has its own leads.
_ROLES = ("channel", "cycling", "impedance", "changeover", "press", "gauge", "chamber")
_ON_LEADS = ("cycling", "impedance")
_SHARED_BY_ALL = ("press", "gauge", "changeover")


@dataclass(frozen=True)
class Place:
    """One cell, and the instruments around it.

    Attributes:
        name: Of the place; empty on a bench with one cell.
        world: What is there.
        instruments: Their names, by what they are to it.
        leads: Those that are not on the cell all the time, by instrument.
    """

    name: str
    world: World
    instruments: Mapping[str, str]
    leads: Mapping[str, Leads]

    def connect(self, positions: Mapping[str, bool]) -> None:
        """Connect leads as a switch has its positions; contacts that open do so first.

        Args:
            positions: Whether each is closed, by what it connects: an instrument, or by the place's
                name the one that takes spectra.
        """
        wanted = {name: self._is_on(name, positions) for name in self.leads}
        for connected in (False, True):
            for name, leads in self.leads.items():
                if wanted[name] is connected:
                    leads.connected = connected

    def _is_on(self, instrument: str, positions: Mapping[str, bool]) -> bool:
        """Whether an instrument is connected; a cycler without contacts is so for good."""
        spectra = instrument == self.instruments["impedance"]
        called = {_plain(instrument), _plain(self.name)} if spectra else {_plain(instrument)}
        found = [closed for name, closed in positions.items() if _plain(name) in called]
        return any(found) if found else instrument == self.instruments["cycling"]


@dataclass(frozen=True)
class Standing:
    """What holds for all places of a bench, but for what they say themselves.

    Attributes:
        cell: Name of the simulated cell.
        fixture: What holds it, a key of `FIXTURES`.
        seed: Of the bench.
        air: Where each chamber starts.
    """

    cell: str
    fixture: str
    seed: int
    air: ChamberSettings


def alone(wiring: Mapping[str, Mapping[str, str]], on: Standing) -> Place:
    """Return the place of a bench with one cell, whose wiring may name instruments that share it.

    Its world has the bench's own seed.
    """
    name, entry = next(iter(wiring.items()), ("", {}))
    return _with_leads(name, entry, _world(on.cell, on.fixture, on, on.seed))


def places_of(cells: Mapping[str, Mapping[str, Any]], on: Standing) -> dict[str, Place]:
    """Return the places of a bench, each with a world and a seed of its own, all in one room.

    Args:
        cells: What the bench file says of each place; ``cell`` is the simulated one.
        on: What holds where it says nothing.
    """
    return {name: _place(name, entry, on) for name, entry in cells.items()}


def place_seed(seed: int, name: str) -> int:
    """The seed of what is at a place, whatever other places there are."""
    return random_stream(seed, f"place {name}").getrandbits(32)


def _place(name: str, entry: Mapping[str, Any], on: Standing) -> Place:
    own = entry.get("fixture") or on.fixture
    fixture = str(own.get("kind", on.fixture) if isinstance(own, Mapping) else own)
    world = _world(str(entry.get("cell") or on.cell), fixture, on, place_seed(on.seed, name))
    return _with_leads(name, entry, world)


def _world(cell: str, fixture: str, on: Standing, seed: int) -> World:
    preset, held_by = load_preset(known_cell(cell)), FIXTURES[known_fixture(fixture)]
    return World(preset, seed=seed, fixture=held_by, chamber=on.air, room_seed=on.seed)


def _with_leads(name: str, entry: Mapping[str, Any], world: World) -> Place:
    junction = Junction(world)
    instruments = {role: str(entry[role]) for role in _ROLES if entry.get(role) is not None}
    leads = {instruments[role]: junction.leads() for role in _ON_LEADS if role in instruments}
    return Place(name, world, instruments, leads)


def known_cell(name: str) -> str:
    """Return the name of a simulated cell; raises InputError where there is none of it."""
    if name not in preset_names():
        raise InputError(f"no simulated cell {name!r}; there are: {', '.join(preset_names())}")
    return name


def known_fixture(name: str) -> str:
    """Return the name of a simulated fixture; raises InputError where there is none of it."""
    if name not in FIXTURES:
        raise InputError(f"no simulated fixture {name!r}; there are: {', '.join(FIXTURES)}")
    return name


def acts_on(
    instrument: str, places: Iterable[Place], on: Standing
) -> World | SharedWorlds | SharedAir | Leads | SharedLeads:
    """Return what an instrument of a bench with places acts on.

    Raises:
        InputError: It is at no place, or at several where it can be at one only.
    """
    served = [
        (place, role)
        for place in places
        for role, name in place.instruments.items()
        if name == instrument
    ]
    roles = {role for _, role in served}
    if not served:
        raise InputError(f'{instrument} is at no place: name it under "cells"')
    if len(roles) > 1:
        raise InputError(f'{instrument} is {" and ".join(sorted(roles))} under "cells"')
    return _common(instrument, roles.pop(), [place for place, _ in served], on)


def _common(
    instrument: str, role: str, places: Sequence[Place], on: Standing
) -> World | SharedWorlds | SharedAir | Leads | SharedLeads:
    worlds = [place.world for place in places]
    if role == "impedance" or (role == "cycling" and len(places) == 1):
        ends = [place.leads[instrument] for place in places]
        return ends[0] if len(ends) == 1 else SharedLeads(ends)
    if role == "chamber":
        return SharedAir(worlds, on.air, on.seed)
    if len(places) == 1:
        return worlds[0]
    if role in _SHARED_BY_ALL:
        return SharedWorlds(worlds)
    names = " and ".join(place.name for place in places)
    raise InputError(f"{instrument} is the {role} of {names}: one channel is at one place")


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()
