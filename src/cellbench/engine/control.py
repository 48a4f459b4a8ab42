"""The command channel: requests from other processes of the same user reach a run's loop.

A small server on this computer's own address, in the side thread. Who asks must bear the run's
token, which only its user can read. The server touches nothing of the engine: it hands a request
over to the engine's loop, where `Commands` obeys it between two of the engine's own doings, and
sends back what that says. What is no request, or bears another token, changes nothing; it is
counted, and entered in the journal now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from cellbench.clock import unseen
from cellbench.engine.control_file import ControlFile, place
from cellbench.engine.gate import Gate
from cellbench.engine.requests import (
    REQUEST_MAX_BYTES,
    RefusedRequest,
    Reply,
    Who,
    parse_envelope,
    parse_request,
)
from cellbench.errors import InputError
from cellbench.engine.side_thread import SideThread

HOST = "127.0.0.1"
#: For a client to send its request, and to take its answer.
CLIENT_S = 5.0
#: Clients that have not asked yet; of more, the one that has been silent longest is turned away.
SILENT_CLIENTS_MAX = 64
#: Refused requests are told of at most so often, with their number.
TELL_EVERY_S = 60.0


class ControlServer:
    """Takes requests to one run while the context lasts; entered from the engine's loop.

    A server that cannot be opened is no reason not to run: it is told of.

    Args:
        run_id: The run.
        run_path: Its file; where commands are taken stands beside it.
        side: Where the server runs.
        gate: Where requests enter the engine's loop.

    Attributes:
        refused: How often something was refused, by why.
    """

    def __init__(self, run_id: str, run_path: Path, side: SideThread, gate: Gate) -> None:
        self.refused: Counter[str] = Counter()
        self._run_id = run_id
        self._path = place(run_path)
        self._side = side
        self._gate = gate
        self._token = secrets.token_urlsafe(32)
        self._file: ControlFile | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        self._turned_away = "too many at a time"
        self._opened: Future[None] | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._told_s = -TELL_EVERY_S

    async def __aenter__(self) -> Self:
        # Not waited for: between a run's entry in the catalogue and its way to the safe state
        # nothing may be cancelled.
        self._opened = self._side.run(self._open())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._opened is not None  # noqa: S101 (it was entered)
        await unseen(asyncio.wrap_future(self._opened))
        await self._side.done(self._close())

    # --- In the side thread ---------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            self._server = await asyncio.start_server(
                self._connected, HOST, 0, limit=REQUEST_MAX_BYTES
            )
            port: int = self._server.sockets[0].getsockname()[1]
            self._file = ControlFile.of_this_process(self._run_id, port, self._token)
            self._file.write(self._path)
        except OSError as error:
            self._gate.tell(f"no commands from other terminals: {error.strerror or error}")

    async def _close(self) -> None:
        """Take no more clients; those that have asked get their answer."""
        if self._file is not None:
            # Whatever became of the disk: what is left of it is known by its dead process.
            with contextlib.suppress(OSError, InputError):
                self._file.remove(self._path)
        if self._server is not None:
            self._server.close()
        self._turned_away = "the run has ended"
        for client in list(self._silent):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        self._tell_refused()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None  # noqa: S101 (asyncio calls this as a task)
        self._clients.add(client)
        try:
            # asyncio's own callback would complain of a client whose task was cancelled.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(client, reader, writer)
        finally:
            self._clients.discard(client)
            writer.transport.abort()

    async def _serve(
        self,
        client: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            reply = await self._answer(await self._line(client, reader))
        except RefusedRequest as error:
            reply = self._refuse(str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLIENT_S):
                writer.write(reply.line())
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def _line(self, client: asyncio.Task[None], reader: asyncio.StreamReader) -> bytes:
        """Read a client's request, while others that are silent do not need the place."""
        if len(self._silent) >= SILENT_CLIENTS_MAX:
            longest = next(iter(self._silent))
            del self._silent[longest]
            longest.cancel()
        self._silent[client] = None
        try:
            return await _read(reader)
        except asyncio.CancelledError:
            raise RefusedRequest(self._turned_away) from None
        finally:
            self._silent.pop(client, None)

    async def _answer(self, line: bytes) -> Reply:
        envelope = parse_envelope(line)
        if not hmac.compare_digest(envelope.token.encode(), self._token.encode()):
            raise RefusedRequest("wrong token")
        who = Who(**envelope.by.model_dump())
        reply = await self._gate.ask(parse_request(envelope.request), who)
        if reply.data is None:
            return reply
        return reply.model_copy(update={"data": {**reply.data, "refused": dict(self.refused)}})

    def _refuse(self, why: str) -> Reply:
        self.refused[why] += 1
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_at(self._told_s + TELL_EVERY_S, self._tell_refused)
        return Reply(accepted=False, text=f"refused: {why}")

    def _tell_refused(self) -> None:
        """Tell of what was refused since the last time."""
        if self._telling is None:
            return
        self._telling.cancel()
        self._telling = None
        self._told_s = asyncio.get_running_loop().time()
        reasons = ", ".join(f"{why} ({count})" for why, count in sorted(self.refused.items()))
        self._gate.tell(f"refused requests to the command channel so far: {reasons}")


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read the one line of a request, bounded in size and time."""
    try:
        async with asyncio.timeout(CLIENT_S):
            return await reader.readuntil(b"\n")
    except TimeoutError:
        raise RefusedRequest(f"no request within {CLIENT_S:g} s") from None
    except asyncio.LimitOverrunError:
        raise RefusedRequest(f"longer than {REQUEST_MAX_BYTES} bytes") from None
    except asyncio.IncompleteReadError as error:
        what = "incomplete" if error.partial else "empty"
        raise RefusedRequest(f"the request is {what}") from None
