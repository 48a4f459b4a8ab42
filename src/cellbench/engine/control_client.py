"""Asking a run for something from another process of the same user."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import time

from pydantic import ValidationError

from cellbench.engine.control_file import ControlFile
from cellbench.engine.requests import NAME_MAX, VERSION, Envelope, Person, Reply, Request
from cellbench.errors import CellbenchError

HOST = "127.0.0.1"
CONNECT_S = 5.0
#: The run answers, if only that it cannot, well within this.
ANSWER_S = 30.0
_ANSWER_MAX_BYTES = 4 << 20


class Unreachable(CellbenchError):
    """Nobody takes the run's commands any more."""


def this_person() -> Person:
    """Who sits at this terminal, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a process of a user without a name
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return Person(user=_name(user) or "somebody", host=_name(platform.node()) or "this computer")


def ask(
    control: ControlFile,
    request: Request,
    *,
    patience_s: float = ANSWER_S,
    by: Person | None = None,
) -> Reply:
    """Send a request to a run, and return its answer.

    Args:
        control: Where the run takes it.
        request: What is asked.
        patience_s: How long to wait for the answer.
        by: Who asks; by default whoever this process belongs to.

    Raises:
        Unreachable: Nobody is there.
        CellbenchError: The run does not answer.
    """
    envelope = Envelope(
        cellbench=VERSION,
        token=control.token,
        by=by or this_person(),
        # Without what is as usual: a run that an earlier version began knows the rest.
        request={
            "command": request.command,
            **request.model_dump(mode="json", exclude_defaults=True),
        },
    )
    try:
        address = (HOST, control.port)
        with socket.create_connection(address, min(CONNECT_S, patience_s)) as connection:
            connection.sendall(envelope.line())
            answer = _line(connection, patience_s)
    except ConnectionRefusedError as error:
        raise Unreachable(f"run {control.run} takes no commands any more") from error
    except (TimeoutError, OSError) as error:
        raise CellbenchError(
            f"run {control.run} (process {control.pid}) does not answer: {error}. Whether it took "
            "note of the command is unknown."
        ) from error
    try:
        return Reply.model_validate_json(answer)
    except ValidationError as error:
        raise CellbenchError(
            f"what answers on port {control.port} is not run {control.run}"
        ) from error


def _line(connection: socket.socket, patience_s: float) -> bytes:
    """Read up to the end of the line, within a bounded time."""
    deadline_s = time.monotonic() + patience_s
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < _ANSWER_MAX_BYTES:
        connection.settimeout(max(0.01, deadline_s - time.monotonic()))
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return bytes(received)


def _name(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:NAME_MAX].strip()
