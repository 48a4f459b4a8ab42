"""Connecting again after a connection was lost: a few times, further apart each time.

The pauses pass on the event loop's clock and are the same each time, so that a simulated run stays
reproducible. Only the connection is made anew: nothing that was sent before is sent again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from cellbench.errors import TransportClosed
from cellbench.transport.stream import ClosedForGood, Stream


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one goes on trying.

    Attributes:
        attempts: How often at most; the first one is made at once.
        pause_s: Before the second attempt; each further pause is twice as long.
        pause_max_s: But none is longer than this.
        limit_s: All of it together, attempts that hang included.
    """

    attempts: int = 4
    pause_s: float = 0.25
    pause_max_s: float = 2.0
    limit_s: float = 10.0


PATIENCE = Patience()


class ReconnectionFailed(TransportClosed):
    """The connection could not be made again; it may be tried once more later."""


async def reconnect(stream: Stream, patience: Patience = PATIENCE) -> None:
    """Open the connection of ``stream`` anew.

    Raises:
        ReconnectionFailed: It did not open within ``patience``; says why the last attempt failed.
    """
    # Counted here and not by tenacity's own clock: that one is not the event loop's.
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(TransportClosed) & retry_if_not_exception_type(ClosedForGood),
        stop=stop_after_attempt(patience.attempts),
        wait=wait_exponential(multiplier=patience.pause_s, max=patience.pause_max_s),
        sleep=asyncio.sleep,
        reraise=True,
    )
    try:
        async with asyncio.timeout(patience.limit_s):
            await attempts(stream.reopen)
    except TimeoutError as error:
        message = f"could not connect again within {patience.limit_s:g} s"
        raise ReconnectionFailed(message) from error
    except ClosedForGood as error:
        raise ReconnectionFailed(str(error)) from error
    except TransportClosed as error:
        message = f"could not connect again in {patience.attempts} attempts: {error}"
        raise ReconnectionFailed(message) from error


async def stay_connected(stream: Stream, patience: Patience = PATIENCE) -> bool:
    """Connect again if the connection is known to be lost; returns whether that was done.

    Raises:
        ReconnectionFailed: As `reconnect`.
    """
    if not stream.lost:
        return False
    await reconnect(stream, patience)
    return True
