"""The simulated operator: reads what is asked, takes a while, and does it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from cellbench.quantities import unit_of
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.world import World

#: What a person in the room needs to notice a prompt and act on it.
REACTION_S = 60.0
#: A person pumps, or opens the valve, so that the largest force would take this long.
_FULL_FORCE_S = 30.0
_LOOK_S = 1.0

_BY_HAND = "by hand"
_FORCE = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?) ?(MN|kN|N|t|kgf)\b")
_EXAMPLE = re.compile(r"like (\S+) (\S+):$")


class Hands:
    """What a person does with the press of the simulated bench.

    Args:
        timebase: The bench's time.
        world: Where the press is.
    """

    def __init__(self, timebase: Timebase, world: World) -> None:
        self._timebase = timebase
        self._world = world

    async def press(self, force_N: float) -> float:
        """Work the press until it shows a force, and close the valve; returns what it shows."""
        press = self._world.press
        self._now()
        press.ramp_to(min(force_N, press.max_force_N), press.max_force_N / _FULL_FORCE_S)
        while press.moving:
            await asyncio.sleep(_LOOK_S)
            self._now()
        press.stop()
        return press.force_N

    def _now(self) -> None:
        self._world.advance_to(self._timebase.now())


class SimulatedOperator:
    """Answers every prompt with its first choice, in simulated time.

    Args:
        hands: What it presses with when it is asked to press, or to unload, "by hand"; the first
            force in the prompt is the one. Without hands it only says so.
    """

    def __init__(self, hands: Hands | None = None) -> None:
        self._hands = hands

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Return the answer to ``prompt`` after a while; one of ``choices`` where there are any."""
        await asyncio.sleep(REACTION_S)
        asked = _FORCE.search(prompt)
        if self._hands is not None and asked is not None and _BY_HAND in prompt:
            shown_N = await self._hands.press(float(asked[1]) * unit_of(asked[2])[0])
            if (example := _EXAMPLE.search(prompt)) is not None:
                return _typed(example, shown_N)
        return choices[0] if choices else f"done: {prompt}"


def _typed(example: re.Match[str], shown_N: float) -> str:
    """What the dial shows, written like the example; a dial of pressure shows what was asked."""
    value, unit = example.groups()
    if unit_of(unit)[1] == unit_of("N")[1]:
        value = f"{shown_N / unit_of(unit)[0]:.4g}"
    return f"{value} {unit}"
