"""The bench of a run that is gone on with, where an instrument may not be there yet.

After a power failure a computer may be up before its instruments are. One that does not answer is
tried again, as its entry of the bench file has it (`OnTrouble`), but not for long: while one is
waited for nobody looks after the others. The service tries whole runs again, for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from cellbench.bench import Bench, OnTrouble
from cellbench.engine.session import Session
from cellbench.engine.trouble import PAUSE_S, is_silence
from cellbench.errors import InstrumentError
from cellbench.instruments.roles import Operator

#: For how long an instrument is waited for, and the longest pause between two attempts.
LONGEST_S, PAUSE_MAX_S = 120.0, 15.0


@asynccontextmanager
async def awaited_bench(
    session: Session, operator: Operator | None, take_over: str, say: Callable[[str], None]
) -> AsyncIterator[Bench]:
    """Connect the instruments, and wait for one that does not answer.

    Args:
        session: Whose bench it is.
        operator: See `Session.bench`.
        take_over: Likewise.
        say: Called once for each instrument that is waited for.

    Raises:
        InstrumentError: One is still not there, or answers, and is not what it should be.
    """
    began_s, attempts, said = _now_s(), 0, ""
    async with AsyncExitStack() as stack:
        while True:
            try:
                connecting = session.bench(operator, take_over=take_over)
                bench = await stack.enter_async_context(connecting)
                break
            except InstrumentError as error:
                pause_s = min(PAUSE_S * 2.0**attempts, PAUSE_MAX_S)
                left_s = _longest_s(session, error, attempts) - (_now_s() - began_s)
                if not is_silence(error) or left_s < pause_s:
                    raise
                if error.instrument != said:
                    say(f"{error}; it is tried again for {left_s:.0f} s")
                attempts, said = attempts + 1, error.instrument
            await asyncio.sleep(pause_s)
        yield bench


def _longest_s(session: Session, error: InstrumentError, attempts: int) -> float:
    """For how long an instrument is waited for in all."""
    policy = session.file.instruments[error.instrument].on_trouble or OnTrouble()
    if policy.then == "wait":
        return min(policy.patience_s, LONGEST_S)
    return LONGEST_S if attempts < policy.retries else 0.0


def _now_s() -> float:
    return asyncio.get_running_loop().time()
