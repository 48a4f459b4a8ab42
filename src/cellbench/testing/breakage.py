"""Nothing that goes wrong on the way, at whatever moment, leaves anything but a safe state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from cellbench.errors import InstrumentError
from cellbench.instruments.techniques import ConstantCurrent
from cellbench.testing.channel import direct_techniques, run_whole
from cellbench.testing.checks import NonConformance, check, demand
from cellbench.testing.common import (
    require_confirmed,
    require_honest_quiet,
    require_quiet,
    require_wire,
)
from cellbench.testing.faults import Fault
from cellbench.testing.subject import Session, Subject

#: What fails has to say so within this time.
_SAYS_SO_S = 900.0


async def work(session: Session) -> None:
    """What an instrument of this role does all day, a little of it."""
    driver, able, amounts = session.driver, session.driver.capabilities, session.amounts
    match session.subject.role:
        case "channel":
            technique = ConstantCurrent(
                current_A=amounts.current_A,
                duration_s=amounts.duration_s,
                interval_s=max(amounts.interval_s, able.interval_min_s),
            )
            async with driver.run(technique, amounts.limits) as running:
                async for _ in running:
                    break
        case "press":
            force_N = max(able.force_min_N, 0.5 * amounts.force_fraction * able.force_max_N)
            await driver.ramp_to(force_N, able.rate_max_N_per_s / 2, able.force_max_N)
            await driver.read()
        case "gauge":
            await driver.read()
            await driver.tare()
            await driver.read()
        case "chamber":
            await driver.set_temperature(0.5 * (able.temperature_min_K + able.temperature_max_K))
            await driver.read()
        case "switch":
            for position in able.positions[:2]:
                await driver.select(position)


@check()
async def works_and_is_quiet(subject: Subject) -> None:
    """It connects, does a little of its work, is quiet, and goes."""
    async with subject.session() as session:
        await work(session)
        await require_confirmed(session)


@check()
async def safe_when_connecting_fails(subject: Subject) -> None:
    """Whatever goes wrong while connecting is an InstrumentError, and energises nothing."""

    async def connecting(session: Session) -> None:
        await session.driver.connect()

    await _break_everywhere(subject, connecting, connected=False)


@check()
async def safe_when_work_fails(subject: Subject) -> None:
    """Silence, garbage and disconnection at each exchange are told, and quiet still works."""
    await _break_everywhere(subject, work, connected=True)


@check()
async def safe_when_cancelled(subject: Subject) -> None:
    """Cancelled at each await, it is quiet: the cell off, the force held."""
    awaits = await _cancelled_at(subject, None)
    for await_ in range(1, awaits + 1):
        await _cancelled_at(subject, await_)


@check()
async def connects_again(subject: Subject) -> None:
    """A connection that is lost at work is made again: the same instrument, quiet, and it works."""
    async with subject.session() as session:
        require_wire(session)
        driver = session.driver
        first = await driver.connect()
        await _lose_at_work(session)
        await session.line.reopen()
        again = await driver.connect()
        demand(
            (again.model, again.serial) == (first.model, first.serial),
            f"it was {first.model} {first.serial}, and is {again.model} {again.serial}",
        )
        await require_quiet(session)
        if subject.role == "channel":
            await run_whole(session, "constant current")
        else:
            await work(session)
        await require_confirmed(session)


async def _lose_at_work(session: Session) -> None:
    """Lose the connection when the first row has come, or when there is nothing to wait for."""
    if session.subject.role != "channel":
        await work(session)
        await session.line.drop()
        return
    driver, technique = session.driver, direct_techniques(session)["constant current"]
    try:
        async with asyncio.timeout(_SAYS_SO_S):
            async with driver.run(technique, session.amounts.limits) as running:
                async for _ in running:
                    if not session.line.lost:
                        await session.line.drop()
    except InstrumentError:
        pass  # as it should, unless it connects again by itself
    except TimeoutError as error:
        raise NonConformance(f"a lost connection is not told for {_SAYS_SO_S:g} s") from error


Story = Callable[[Session], Awaitable[None]]


async def _break_everywhere(subject: Subject, story: Story, *, connected: bool) -> None:
    async with subject.session(connected=connected) as session:
        before = session.line.sent
        await story(session)
        messages = session.line.sent - before
    for fault in Fault:
        for message in range(1, messages + 1, subject.amounts.stride):
            try:
                await _break(subject, story, message, fault, connected=connected)
            except NonConformance as problem:
                raise NonConformance(f"{fault.value} at exchange {message}: {problem}") from problem


async def _break(
    subject: Subject, story: Story, message: int, fault: Fault, *, connected: bool
) -> None:
    async with subject.session(connected=connected) as session:
        session.line.break_at(session.line.sent + message, fault)
        try:
            async with asyncio.timeout(_SAYS_SO_S):
                await story(session)
        except InstrumentError:
            pass  # as it should
        except TimeoutError as error:
            raise NonConformance(f"nothing is said for {_SAYS_SO_S:g} s") from error
        except Exception as error:
            raise NonConformance(f"raises {error!r}, which is no InstrumentError") from error
        if connected:
            await require_honest_quiet(session)
        session.line.heal()
        if not connected:
            await session.driver.connect()
        await require_quiet(session)


async def _cancelled_at(subject: Subject, await_: int | None) -> int:
    """Cancel the work when it waits for the so many-th time; return how often it waited."""
    async with subject.session() as session:
        stepped = _Stepped(work(session), await_)
        task = asyncio.get_running_loop().create_task(stepped)
        await asyncio.wait([task], timeout=_SAYS_SO_S)
        demand(task.done(), f"cancelled at await {await_}, it goes on for {_SAYS_SO_S:g} s")
        if await_ is None:
            task.result()
            return stepped.awaits
        if not task.cancelled():
            error = task.exception()
            demand(error is not None, f"cancelled at await {await_}, it goes on as if nothing was")
            demand(
                isinstance(error, InstrumentError), f"cancelled at {await_}, it raises {error!r}"
            )
        if subject.role == "channel":
            demand(not session.energised(), f"cancelled at await {await_}, the cell stays on")
        try:
            await require_quiet(session)
        except NonConformance as problem:
            raise NonConformance(f"cancelled at await {await_}: {problem}") from problem
        return stepped.awaits


class _Stepped(Coroutine[Any, Any, None]):
    """A coroutine that counts how often it waits, and is cancelled at one of these."""

    def __init__(self, inner: Coroutine[Any, Any, None], cancel_at: int | None) -> None:
        self.awaits = 0
        self._inner = inner
        self._cancel_at = cancel_at

    def send(self, value: Any) -> Any:
        """Go on until it waits."""
        return self._waits(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        """Go on with an error until it waits."""
        return self._waits(self._inner.throw(*error))

    def close(self) -> None:
        """End it."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait for it from another coroutine."""
        return self._inner.__await__()

    def _waits(self, for_what: Any) -> Any:
        self.awaits += 1
        task = asyncio.current_task()
        if self.awaits == self._cancel_at and task is not None:
            asyncio.get_running_loop().call_soon(task.cancel)
        return for_what
