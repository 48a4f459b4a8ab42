"""Ids and dates that a protocol puts on the wire: made of the run's seed.

The replay of a run then repeats them. A driver that must give a test an id, or tell an instrument
the date, asks here and nowhere else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from uuid import UUID

_CURRENT: ContextVar[WireIdentity] = ContextVar("wire identity")


class WireIdentity:
    """The ids and dates of one run.

    Args:
        seed: What the ids are made of.
        started: The date and time of this moment, on the wire.
    """

    def __init__(self, seed: int, started: datetime) -> None:
        self.seed, self.started = seed, started
        self._random = random.Random(seed)  # noqa: S311 (names, not secrets)
        self._loop = asyncio.get_running_loop()
        self._origin_s = self._loop.time()

    def new_id(self) -> UUID:
        """Return the next id, a random one (version 4)."""
        return UUID(int=self._random.getrandbits(128), version=4)

    def now(self) -> datetime:
        """Return the date and time of this moment by the loop's clock."""
        return self.started + timedelta(seconds=self._loop.time() - self._origin_s)


@contextmanager
def identified(identity: WireIdentity) -> Iterator[None]:
    """Within the context (and tasks begun in it) ids and dates are those of ``identity``."""
    token = _CURRENT.set(identity)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def new_id() -> UUID:
    """Return a new id to put on the wire.

    Raises:
        LookupError: No bench is connected here.
    """
    return _CURRENT.get().new_id()


def wire_time() -> datetime:
    """Return the date and time to put on the wire, with its zone; raises like `new_id`."""
    return _CURRENT.get().now()
