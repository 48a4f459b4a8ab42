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
import socket
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

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
from cellbench.engine.side_thread import SideThread
from cellbench.errors import InputError

HOST = "127.0.0.1"
#: For a client to send its request, and to take its answer.
CLIENT_S = 5.0
#: Clients that have not asked yet; of more, the one that has been silent longest is turned away.
SILENT_CLIENTS_MAX = 64
#: Refused requests are told of at most so often, with their number.
TELL_EVERY_S = 60.0
#: Where no more connections can be opened, the next look at those that wait.
_LATER_S = 1.0
_ENDED = "the run has ended"


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
        self._listening: socket.socket | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[Any], None] = {}
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
            self._listening = socket.create_server((HOST, 0))
            self._listening.setblocking(False)
            port: int = self._listening.getsockname()[1]
            self._file = ControlFile.of_this_process(self._run_id, port, self._token)
            self._file.write(self._path)
            self._listen()
        except OSError as error:
            self._gate.tell(f"no commands from other terminals: {error.strerror or error}")

    async def _close(self) -> None:
        """Take no more clients; those that have asked get their answer."""
        if self._file is not None:
            # Whatever became of the disk: what is left of it is known by its dead process.
            with contextlib.suppress(OSError, InputError):
                self._file.remove(self._path)
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for client in list(self._silent):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        self._tell_refused()

    # Accepted here: asyncio's own server loses a connection that is accepted as it is closed.

    def _listen(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it has gone again
        except OSError:
            loop.remove_reader(listening)
            loop.call_later(_LATER_S, self._listen)
            return
        connection.setblocking(False)
        client = loop.create_task(self._connected(connection), name="client")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _connected(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # who has gone needs no answer
            reader, writer = await asyncio.open_connection(sock=connection, limit=REQUEST_MAX_BYTES)
            try:
                await self._serve(reader, writer)
            finally:
                writer.transport.abort()
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._answer(await self._line(reader))
        except RefusedRequest as error:
            reply = self._refuse(str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLIENT_S):
                writer.write(reply.line())
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """Read a client's request, while others that are silent do not need the place."""
        client = asyncio.current_task()
        assert client is not None  # noqa: S101 (each client is a task)
        if self._listening is None:
            raise RefusedRequest(_ENDED)
        if len(self._silent) >= SILENT_CLIENTS_MAX:
            longest = next(iter(self._silent))
            del self._silent[longest]
            longest.cancel()
        self._silent[client] = None
        try:
            return await _read(reader)
        except asyncio.CancelledError:
            why = _ENDED if self._listening is None else "too many at a time"
            raise RefusedRequest(why) from None
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
