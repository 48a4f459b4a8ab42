"""How a bench passes from a guard to whoever takes it over: a file beside each instrument's lock.

The file says which process asks, and stands there as long as that process has the bench; a guard
that sees it lets go of everything and ends. One left behind by a process that is gone counts for
nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cellbench.engine.guard.processes import ProcessId
from cellbench.errors import InputError, InstrumentError
from cellbench.transport.ownership import Holder, ask_path, holder_of, is_free

#: How often a guard looks whether it is asked to let go, and how long that may take: its press is
#: left in order first.
LOOK_S = 0.25
LET_GO_S = 30.0


@asynccontextmanager
async def taking_over(
    where: Mapping[str, str], purpose: str, *, force: bool = False
) -> AsyncIterator[list[str]]:
    """Have the guard of a bench let go of it, and keep guards away until the context ends.

    Args:
        where: The places of its instruments, by name.
        purpose: What for: the guard enters it in its ledger.
        force: Whether to end other processes that have an instrument.

    Yields:
        What had to be done, for people.

    Raises:
        InstrumentError: Another process has an instrument, and does not let go; says which.
    """
    asks = [_ask(place, purpose) for place in where.values()]
    try:
        done = [await _free(name, place, force=force) for name, place in where.items()]
        yield [each for each in done if each]
    finally:
        for ask in asks:
            ask.unlink(missing_ok=True)


def asked(where: Iterable[str]) -> str | None:
    """Who asks for one of the instruments at these places, None if nobody does."""
    for place in where:
        path = ask_path(place)
        with suppress(OSError, ValueError, KeyError, TypeError):
            ask: Mapping[str, str | int | float] = json.loads(path.read_text(encoding="utf-8"))
            if ProcessId(int(ask["pid"]), float(ask["started"])).lives:
                return f"process {ask['pid']} ({ask['purpose']})"
    return None


def _ask(place: str, purpose: str) -> Path:
    path, me = ask_path(place), ProcessId.mine()
    note = {"pid": me.pid, "started": me.started, "purpose": purpose}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In one piece: a guard may read it at any moment.
        written = path.with_suffix(f".ask.{os.getpid()}")
        written.write_text(json.dumps(note), encoding="utf-8")
        written.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.parent}: {error.strerror or error}; instruments are locked there"
        ) from error
    return path


async def _free(name: str, place: str, *, force: bool) -> str:
    """Wait until a place is free; returns what was done for it, or nothing."""
    if is_free(place):
        return ""
    holder = holder_of(place)
    done = ""
    if holder is not None and not holder.yields:
        if not force:
            raise InstrumentError(name, _in_use(holder))
        done = f"{name}: {await ProcessId.of(holder.pid).end()}"
    try:
        async with asyncio.timeout(LET_GO_S):
            while not is_free(place):
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        who = holder_of(place) or "another process"
        raise InstrumentError(name, f"{who} does not let go of it") from error
    return done or f"{name}: {holder or 'another process'} has let go of it"


def _in_use(holder: Holder) -> str:
    ending = "end it"
    if holder.purpose.startswith("run "):
        ending = f"end it with cellbench abort {holder.purpose.removeprefix('run ')}"
    return f"is in use by {holder}: {ending}, or give --force, which ends that process first"
