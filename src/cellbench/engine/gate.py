"""The gate through which requests enter a run's loop, from whatever thread they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from cellbench.engine.requests import (
    NAME_MAX,
    Look,
    RefusedRequest,
    Reply,
    Request,
    Who,
    parse_request,
)
from cellbench.engine.snapshot import snapshot
from cellbench.errors import CellbenchError

if TYPE_CHECKING:
    from cellbench.engine.run import Conducting

#: For the engine's loop to look at a request; what it has not begun by then is withdrawn.
ENGINE_S = 10.0

Obey = Callable[[Request, Who], Awaitable[Reply]]


class Gate:
    """Hands requests over to a run's loop; made there.

    Args:
        obey: Called in the run's loop.
        tell: Called in the run's loop with what a technician should know of.
    """

    def __init__(self, obey: Obey, tell: Callable[[str], None]) -> None:
        self._obey = obey
        self._tell = tell
        self._engine = asyncio.get_running_loop()
        self._obeying: set[asyncio.Task[None]] = set()

    async def ask(self, request: Request, who: Who) -> Reply:
        """Have the run's loop obey, and wait for what it says; from a loop in real time."""
        reply: Future[Reply] = Future()
        try:
            self._engine.call_soon_threadsafe(self._begin, request, who, reply)
        except RuntimeError:  # its loop is closed
            return Reply(accepted=False, text="the run has ended")
        waiting = asyncio.wrap_future(reply)
        done, _ = await asyncio.wait({waiting}, timeout=ENGINE_S)
        if done:
            return await waiting
        if reply.cancel():
            text = f"the run has not looked at it in {ENGINE_S:g} s: nothing was done"
        else:
            text = f"the run has begun with it, and is not done in {ENGINE_S:g} s"
        return Reply(accepted=False, text=text)

    async def command(self, name: str, arguments: Mapping[str, object], who: str) -> str:
        """Carry out what comes through a broker; returns what was done.

        Args:
            name: The command.
            arguments: Its own.
            who: The name that the broker's side has verified.

        Raises:
            CellbenchError: It is not possible now, or never; says why.
        """
        try:
            request = parse_request({**arguments, "command": name})
        except RefusedRequest as error:
            raise CellbenchError(str(error)) from error
        reply = await self.ask(request, Who(user=who[:NAME_MAX], via="MQTT"))
        if not reply.accepted:
            raise CellbenchError(reply.text)
        return reply.text

    def tell(self, text: str) -> None:
        """Tell the run of something, from any thread."""
        self._engine.call_soon_threadsafe(self._tell, text)

    # --- In the run's loop ----------------------------------------------------------------------

    def _begin(self, request: Request, who: Who, reply: Future[Reply]) -> None:
        if not reply.set_running_or_notify_cancel():
            return  # withdrawn, and whoever asked was told so
        task = self._engine.create_task(self._obeyed(request, who, reply), name="command")
        self._obeying.add(task)
        task.add_done_callback(self._obeying.discard)

    async def _obeyed(self, request: Request, who: Who, reply: Future[Reply]) -> None:
        try:
            reply.set_result(await self._obey(request, who))
        except Exception as error:  # noqa: BLE001 (a bug in a command must not end the run)
            text = f"internal error: {type(error).__name__}: {error}"
            self._tell(f"a command was not carried out: {text}")
            reply.set_result(Reply(accepted=False, text=text))


def gate_of(run: Conducting) -> Gate:
    """Return the gate of a run: its commands, and a look at it."""

    async def obey(request: Request, who: Who) -> Reply:
        if not isinstance(request, Look):
            return await run.commands.obey(request, who)
        data = snapshot(run)
        return Reply(accepted=True, text=data["state"], data=data)

    return Gate(obey, run.commands.tell)
