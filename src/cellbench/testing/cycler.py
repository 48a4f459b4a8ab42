"""What a cycler has to do with lists: run them whole, and lose no row while its host is away."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import EndingKind
from cellbench.instruments.roles import Cycler
from cellbench.instruments.techniques import ConstantCurrent, Repeat, Rest, StepList
from cellbench.testing.channel import Record, interval_s
from cellbench.testing.checks import NonConformance, NotApplicable, check, demand
from cellbench.testing.subject import Session, Subject

_TEST = "conformance"
#: A host sees so many rows, and is then away for this part of the list.
_SEEN, _AWAY = 3, 0.3


@check("channel")
async def list_runs_whole(subject: Subject) -> None:
    """A list runs to its end: every step, every row once, the cell open."""
    async with subject.session() as session:
        steps, limits = _list(session), session.amounts.limits
        record = Record()
        async with session.driver.run_list(steps, limits, _TEST) as running:
            async for block in running:
                record.take(block)
            ending = running.ending
        demand(ending is not None and ending.kind is EndingKind.COMPLETED, f"it ends: {ending}")
        demand(not session.energised(), "the cell is energised after the end of its list")
        _require_rows(record, first=1)
        found = sorted(set(record.columns["step"]))
        expected = [float(at) for at, _ in enumerate(steps.expanded)]
        demand(found == expected, f"rows of steps {found}, not {expected}")
        duration_s = sum(step.duration_s for step in steps.expanded)
        rows, each_s = len(record.time_s), interval_s(session)
        demand(rows >= 0.9 * duration_s / each_s - 2, f"{rows} rows of {duration_s:g} s")


@check("channel")
async def attaching_while_it_runs(subject: Subject) -> None:
    """A host that comes back during the list fetches each row that it missed, once."""
    await _come_back_after(subject, _AWAY)


@check("channel")
async def attaching_after_the_end(subject: Subject) -> None:
    """A host that comes back after the end of the list fetches each row that it missed, once."""
    await _come_back_after(subject, 2.0)


async def _come_back_after(subject: Subject, away: float) -> None:
    async with subject.session() as session, AsyncExitStack() as remains:
        steps = _list(session)
        seen = await _seen_before_death(session, steps, remains)
        await asyncio.sleep(away * sum(step.duration_s for step in steps.expanded))
        after, record = await session.new_host(), Record()
        async with after.driver.attach(steps, _TEST, len(seen.time_s)) as running:
            async for block in running:
                record.take(block)
            ending = running.ending
        demand(ending is not None and ending.kind is EndingKind.COMPLETED, f"it ends: {ending}")
        _require_rows(record, first=len(seen.time_s) + 1)
        last = record.columns["step"][-1]
        demand(last == len(list(steps.expanded)) - 1, f"the last row is of step {last:g}")
        await after.driver.close()


async def _seen_before_death(session: Session, steps: StepList, remains: AsyncExitStack) -> Record:
    """Start a list and read some of it; then the host is gone, without a word."""
    record = Record()
    context = session.driver.run_list(steps, session.amounts.limits, _TEST)
    async for block in await context.__aenter__():
        record.take(block)
        if len(record.time_s) >= _SEEN:
            break
    session.line.silent = True

    async def bury() -> None:
        # Only when all is over: a dead host cleans nothing up.
        await session.line.close()
        with contextlib.suppress(InstrumentError):
            await context.__aexit__(None, None, None)

    remains.push_async_callback(bury)
    return record


@check("channel")
async def attaching_to_nothing_is_refused(subject: Subject) -> None:
    """Attaching to a test that it does not have is an InstrumentError."""
    async with subject.session() as session:
        steps = _list(session)
        try:
            async with session.driver.attach(steps, "never started", 0) as running:
                async for _ in running:
                    pass
        except InstrumentError:
            return
        raise NonConformance('it attaches to a test "never started"')


def _list(session: Session) -> StepList:
    if not isinstance(session.driver, Cycler):
        raise NotApplicable("it runs no lists by itself")
    each_s, amounts = interval_s(session), session.amounts
    duration_s = max(amounts.duration_s, 10 * each_s)
    rest = Rest(duration_s=duration_s, interval_s=each_s)
    there = ConstantCurrent(current_A=amounts.current_A, duration_s=duration_s, interval_s=each_s)
    back = there.model_copy(update={"current_A": -amounts.current_A})
    return StepList(steps=(rest, Repeat(times=2, steps=(there, back)), rest))


def _require_rows(record: Record, first: int) -> None:
    demand({"step", "row"} <= set(record.columns), f"columns {list(record.columns)}")
    found = [int(row) for row in record.columns["row"]]
    demand(bool(found), "no row at all")
    expected = list(range(first, first + len(found)))
    demand(found == expected, f"rows {found[0]} to {found[-1]}, not each once from {first}")
    steps = record.columns["step"]
    demand(steps == sorted(steps), "steps go back")
