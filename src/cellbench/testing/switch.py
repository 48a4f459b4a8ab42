"""What a multiplexer has to do: connect one position, never two, and none when it is quiet."""

from __future__ import annotations

from cellbench.errors import InstrumentError
from cellbench.testing.checks import NonConformance, check, demand
from cellbench.testing.common import require_quiet
from cellbench.testing.subject import Session, Subject


@check("switch")
async def one_position_at_a_time(subject: Subject) -> None:
    """Each position connects what it should, and never is a second one closed."""
    async with subject.session() as session:
        session.line.on_exchange = lambda: _require_one(session)
        positions = session.driver.capabilities.positions
        for position in (*positions, positions[0], positions[0]):
            await session.driver.select(position)
            closed = session.closed()
            demand(closed == {position}, f'"{position}" selected, closed are {sorted(closed)}')
        await session.driver.open_all()
        demand(not session.closed(), f"all opened, and closed are {sorted(session.closed())}")


@check("switch")
async def unknown_position_is_refused(subject: Subject) -> None:
    """A position that the bench file does not name is refused before anything is sent."""
    async with subject.session() as session:
        sent = session.line.sent
        try:
            await session.driver.select("nowhere")
        except InstrumentError:
            demand(session.line.sent == sent, "it sends something before it refuses")
        else:
            raise NonConformance('it selects a position called "nowhere"')


@check("switch")
async def quiet_opens_everything(subject: Subject) -> None:
    """Quiet opens what is closed, also for a host that comes anew."""
    async with subject.session() as session:
        await session.driver.select(session.driver.capabilities.positions[0])
        await session.driver.close()
        after = await session.new_host()
        demand(session.closed(), "connecting opens what is closed: a cycler may be at work")
        await require_quiet(after)
        await after.driver.close()


def _require_one(session: Session) -> None:
    closed = session.closed()
    demand(len(closed) <= 1, f"closed at the same time: {sorted(closed)}")
