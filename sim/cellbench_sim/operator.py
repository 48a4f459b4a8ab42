"""The simulated operator: reads what is asked, takes a while, and does it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from cellbench.quantities import unit_of
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.leads import Leads
from cellbench_sim.places import Place
from cellbench_sim.world import World

#: The changeover of a cell whose leads a person moves.
BY_OPERATOR = "operator"
#: What a person in the room needs to notice a prompt and act on it.
REACTION_S = 60.0
#: A person pumps, or opens the valve, so that the largest force would take this long.
_FULL_FORCE_S = 30.0
_LOOK_S = 1.0
#: Taking clips off a cell, and clipping others to it.
_CLIPPING_S = 10.0

_BY_HAND = "by hand"
_LEADS = re.compile(r"clip the leads of (.+?) to (?:it|the cell)")
_FORCE = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?) ?(MN|kN|N|t|kgf)\b")
_EXAMPLE = re.compile(r"like (\S+) (\S+):$")


class Hands:
    """What a person does at the simulated bench: works the press, moves leads.

    Args:
        timebase: The bench's time.
        world: Where the press is.
        leads: Those that can be clipped to the cell, by instrument.
        elsewhere: Where the leads of an instrument may be found, by its name.
    """

    def __init__(
        self,
        timebase: Timebase,
        world: World,
        leads: Mapping[str, Leads] | None = None,
        elsewhere: Mapping[str, Sequence[Leads]] | None = None,
    ) -> None:
        self._timebase = timebase
        self._world = world
        self._leads = leads or {}
        self._elsewhere = elsewhere or {}

    def at(self, _place: str) -> Hands:
        """Return the hands at a place; there is one."""
        return self

    async def do(self, prompt: str) -> float | None:
        """Do what a prompt asks for, as far as it takes hands; returns the force that is shown.

        They press, or unload, what is to be done "by hand"; the first force in the prompt is the
        one. They "clip the leads of" an instrument to the cell, after all others are off.
        """
        asked = _FORCE.search(prompt)
        if asked is not None and _BY_HAND in prompt:
            return await self.press(float(asked[1]) * unit_of(asked[2])[0])
        wanted = _LEADS.search(prompt)
        if wanted is not None and wanted[1] in self._leads:
            await self.clip(wanted[1])
        return None

    async def clip(self, instrument: str) -> None:
        """Take all leads off the cell, then clip those of one instrument to it."""
        self._now()
        for leads in (*self._leads.values(), *self._elsewhere.get(instrument, ())):
            leads.advance_to(self._timebase.now())
            leads.connected = False
        await asyncio.sleep(_CLIPPING_S)
        self._now()
        self._leads[instrument].connected = True

    async def press(self, force_N: float) -> float:
        """Work the press until it shows a force, and close the valve; returns what it shows."""
        press = self._world.press
        self._now()
        press.ramp_to(min(force_N, press.max_force_N), press.max_force_N / _FULL_FORCE_S)
        try:
            while press.moving:
                await asyncio.sleep(_LOOK_S)
                self._now()
        finally:
            # Also when nobody wants it any more: whoever sees the prompt go stops pumping.
            press.stop()
        return press.force_N

    def _now(self) -> None:
        self._world.advance_to(self._timebase.now())


class HandsAtPlaces:
    """What a person does at a bench with many cells: at the place with whose name a prompt begins.

    Args:
        at: The hands at each place.
    """

    def __init__(self, at: Mapping[str, Hands]) -> None:
        self._at = at

    def at(self, place: str) -> Hands | HandsAtPlaces:
        """Return the hands at a place, whatever a prompt says; these where none is named."""
        return self._at[place] if place else self

    async def do(self, prompt: str) -> float | None:
        """Do what a prompt asks for; see `Hands`. One that names no place is of none."""
        named = [name for name in self._at if re.match(rf"{re.escape(name)}\b", prompt)]
        return await self._at[max(named, key=len)].do(prompt) if named else None


def hands_of(timebase: Timebase, places: Mapping[str, Place]) -> Hands | HandsAtPlaces:
    """Return the hands of whoever works a bench with these places."""
    by_hand = {
        name: place.leads
        for name, place in places.items()
        if place.instruments.get("changeover") == BY_OPERATOR
    }
    ends: dict[str, list[Leads]] = {}
    for at_place in by_hand.values():
        for instrument, leads in at_place.items():
            ends.setdefault(instrument, []).append(leads)
    hands = {
        name: Hands(timebase, place.world, by_hand.get(name), ends)
        for name, place in places.items()
    }
    return hands[""] if "" in hands else HandsAtPlaces(hands)


class SimulatedOperator:
    """Answers every prompt with its first choice, in simulated time.

    Args:
        hands: With which it does what it is asked for; without them it only says so.
    """

    def __init__(self, hands: Hands | HandsAtPlaces | None = None) -> None:
        self._hands = hands

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Return the answer to ``prompt`` after a while; one of ``choices`` where there are any."""
        await asyncio.sleep(REACTION_S)
        shown_N = None if self._hands is None else await self._hands.do(prompt)
        example = _EXAMPLE.search(prompt)
        if shown_N is not None and example is not None:
            return _typed(example, shown_N)
        return choices[0] if choices else f"done: {prompt}"


class Asked(Protocol):
    """A person who is asked, such as the one at the terminal."""

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Show ``prompt`` and wait for the answer, one of ``choices`` where there are any."""


class AttendedOperator:
    """A person who answers, and whose hands on the simulated bench are simulated ones.

    They act when the person confirms: with the first of the choices, or with any answer.
    """

    def __init__(self, person: Asked, hands: Hands | HandsAtPlaces) -> None:
        self._person = person
        self._hands = hands

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Return the person's answer to ``prompt``, once it is done."""
        answer = await self._person.ask(prompt, choices)
        if not choices or answer == choices[0]:
            await self._hands.do(prompt)
        return answer


def _typed(example: re.Match[str], shown_N: float) -> str:
    """What the dial shows, written like the example; a dial of pressure shows what was asked."""
    value, unit = example.groups()
    if unit_of(unit)[1] == unit_of("N")[1]:
        value = f"{shown_N / unit_of(unit)[0]:.4g}"
    return f"{value} {unit}"
