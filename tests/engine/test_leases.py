"""Leases: never two holders, first come first served, nobody waits for ever, waiting is told."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench import clock
from cellbench.engine.leases import Claim, Leases, Wait

#: Whole-run leases come first, and a spectrum's within them: the order that runs keep to.
WHOLE_RUN, SPECTRUM = ("press", "oven"), ("eis", "mux")


@dataclass(frozen=True)
class Visit:
    """One run: when it comes, what it takes for its whole length, and its spectra."""

    comes_s: int
    whole: tuple[Claim, ...]
    spectra: int
    lasts_s: int


claims = st.lists(
    st.builds(Claim, st.sampled_from(WHOLE_RUN), st.sampled_from(["", "298 K", "333 K"])),
    unique_by=lambda claim: claim.what,
    max_size=2,
).map(tuple)
visits = st.lists(
    st.builds(Visit, st.integers(0, 20), claims, st.integers(0, 3), st.integers(1, 10)),
    min_size=1,
    max_size=7,
)
BOTH = tuple(map(Claim, SPECTRUM))


class Watch:
    """Sees that nobody has what another excludes."""

    def __init__(self) -> None:
        self.having: list[tuple[str, Claim]] = []
        self.granted: list[tuple[str, float]] = []

    def takes(self, who: str, taken: tuple[Claim, ...]) -> None:
        for claim in taken:
            for other, had in self.having:
                assert not claim.excludes(had), f"{who} and {other} have {claim.what}"
        self.having += [(who, claim) for claim in taken]
        self.granted.append((who, asyncio.get_running_loop().time()))

    def gives_back(self, who: str, taken: tuple[Claim, ...]) -> None:
        for claim in taken:
            self.having.remove((who, claim))


async def visit(leases: Leases, watch: Watch, who: str, what: Visit) -> None:
    await asyncio.sleep(what.comes_s)
    async with leases.lease(who, what.whole):
        watch.takes(who, what.whole)
        for _ in range(what.spectra):
            async with leases.lease(who, BOTH):
                watch.takes(who, BOTH)
                await asyncio.sleep(what.lasts_s)
                watch.gives_back(who, BOTH)
        await asyncio.sleep(what.lasts_s)
        watch.gives_back(who, what.whole)


@settings(max_examples=60, deadline=None)
@given(visits)
def test_all_runs_come_to_their_end_and_never_two_have_what_one_can(
    runs: list[Visit],
) -> None:
    async def main() -> None:
        leases, watch = Leases(), Watch()
        async with asyncio.timeout(sum((1 + each.spectra) * each.lasts_s for each in runs) + 21):
            async with asyncio.TaskGroup() as group:
                for number, each in enumerate(runs):
                    group.create_task(visit(leases, watch, f"A{number}", each))
        assert not watch.having
        everything = [Claim(name) for name in (*WHOLE_RUN, *SPECTRUM)]
        async with leases.lease("A9", everything, waits=lambda wait: pytest.fail(str(wait))):
            pass

    clock.run(main(), virtual=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(claims, st.integers(1, 10)), min_size=1, max_size=8))
def test_who_asked_first_is_first_and_the_wait_that_was_told_comes_true(
    asked: list[tuple[tuple[Claim, ...], int]],
) -> None:
    """All ask at one moment and give back when they said: then every wait is known exactly."""

    async def main() -> None:
        leases, watch = Leases(), Watch()
        told: dict[str, float] = {}

        async def use(who: str, taken: tuple[Claim, ...], lasts_s: int) -> None:
            async with leases.lease(who, taken, lasts_s):
                watch.takes(who, taken)
                await asyncio.sleep(lasts_s)
                watch.gives_back(who, taken)

        async with asyncio.TaskGroup() as group:
            for number, (taken, lasts_s) in enumerate(asked):
                group.create_task(use(f"A{number}", taken, lasts_s))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for number in range(len(asked)):
                wait = leases.wait_of(f"A{number}")
                told[f"A{number}"] = 0.0 if wait is None else wait.lasts_s
        came = dict(watch.granted)
        assert came == pytest.approx(told)
        for number, (taken, _) in enumerate(asked):
            for later, (other, _) in enumerate(asked[number + 1 :], start=number + 1):
                if any(one.excludes(two) for one in taken for two in other):
                    assert came[f"A{number}"] <= came[f"A{later}"]

    clock.run(main(), virtual=True)


def test_waiting_is_told_with_who_has_it_and_for_how_long() -> None:
    async def main() -> tuple[str, str, str]:
        leases = Leases()
        told: list[str] = []

        async def spectrum(who: str, lasts_s: float) -> None:
            async with leases.lease(who, BOTH, lasts_s):
                await asyncio.sleep(10 * 60)

        work = [
            asyncio.create_task(spectrum("A1", 840.0)),
            asyncio.create_task(spectrum("A3", 600.0)),
            asyncio.create_task(spectrum("A4", math.inf)),
            asyncio.create_task(spectrum("A5", 1.0)),
        ]
        await asyncio.sleep(1)
        told = [str(leases.wait_of(who)) for who in ("A3", "A4", "A5")]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        return told[0], told[1], told[2]

    first, second, third = clock.run(main(), virtual=True)
    assert first == "waits for eis and mux, which A1 has, ~14 min"
    assert second == "waits for eis and mux, which A1 and A3 have, ~24 min"
    assert third == "waits for eis and mux, which A1, A3 and A4 have"


def test_who_gives_up_waiting_keeps_nobody_from_it() -> None:
    async def main() -> Wait | None:
        leases = Leases()

        async def want(who: str) -> None:
            async with leases.lease(who, BOTH):
                await asyncio.sleep(10)

        first, second, third = (asyncio.create_task(want(who)) for who in ("A1", "A2", "A3"))
        await asyncio.sleep(1)
        second.cancel()
        await first
        await asyncio.sleep(0)
        waits = leases.wait_of("A3")
        await third
        return waits

    assert clock.run(main(), virtual=True) is None
