"""Maccor's MacNet in its JSON form: one object asked, one object answered, over TCP.

A request names a class and a number of function (``FClass``, ``FNum``). Replies have no length and
may be spread over lines, so that they are decoded object by object. Channels count from 0 here.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from cellbench.errors import InstrumentError, TransportTimeout
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import wire

_SILENCE_S, _DRAIN_S = 0.1, 5.0
_REPLY_MAX = 1_000_000
#: Late replies that are skipped before a reply counts as nonsense.
_LATE_MAX = 3
#: A value outside the range of a quantity, which is then not limited (for resistance it is 0).
_IGNORED = 65536

AVAILABLE, ACTIVE, SUSPENDED, COMPLETED, PROBLEM, RESET = 0, 2, 3, 4, 5, 7
#: States of a channel by their number.
STATES = (
    "available",
    "selected",
    "active",
    "suspended",
    "completed",
    "problem",
    "not available",
    "reset",
    "start",
    "power failure",
    "no controller",
    "shut down",
    "starting",
    "blocked",
    "waiting",
    "FRA",
    "remote maintenance",
    "not used",
    "not applicable",
)


class Reading(NamedTuple):
    """What a channel is doing; ``mode`` is RF1 and ``reason`` RF2, why its last record was made."""

    state: int
    mode: int
    reason: int
    test_time_s: float
    voltage_V: float
    current_A: float


class Output(NamedTuple):
    """What direct mode puts out: mode C or D, and magnitudes that limit each other."""

    mode: str
    current_A: float
    voltage_V: float
    current_range: int


class Refusal(InstrumentError):
    """The controller understands the line, and refuses what it asks for; ``code`` as it said."""

    def __init__(self, instrument: str, message: str, code: object) -> None:
        super().__init__(instrument, message)
        self.code = code


class MacNet:
    """The connection to a Maccor system.

    Args:
        name: The instrument, for errors.
        stream: Its connection.
        timeout_s: How long a reply may take.

    Attributes:
        echoes_ids: Whether replies carry the id of their request, as they should.
    """

    def __init__(self, name: str, stream: Stream, timeout_s: float) -> None:
        self.name = name
        self.echoes_ids = True
        self._stream = stream
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._in_step = True
        self._id = 0
        self._decoder = json.JSONDecoder()

    async def ask(self, f_class: int, f_number: int, **parameters: object) -> dict[str, Any]:
        """Return the result of a function.

        Raises:
            Refusal: The controller refuses.
            InstrumentError: It answers something else.
        """
        async with self._lock:
            with wire(self.name):
                if await stay_connected(self._stream) or not self._in_step:
                    await self._stream.drain(_SILENCE_S, _DRAIN_S)
            self._in_step = False
            self._id += 1
            asked = {"FClass": f_class, "FNum": f_number, **parameters}
            request = {"jsonrpc": "2.0", "method": "MacNet", "params": asked, "id": self._id}
            with wire(self.name):
                await self._stream.write(json.dumps(request, separators=(",", ":")).encode())
            reply = await self._reply()
            self._in_step = True
        return self._result(reply, f_class, f_number)

    async def read(self, channel: int) -> Reading:
        """Return what a channel is doing."""
        result = await self.ask(4, 7, Chan=channel)
        return Reading(
            int(self.number(result, "Stat")),
            int(self.number(result, "RF1")),
            int(self.number(result, "RF2")),
            self.number(result, "TestTime"),
            self.number(result, "Voltage"),
            self.number(result, "Current"),
        )

    async def names(self, channel: int) -> tuple[str, str]:
        """Return the names of a channel's test and procedure."""
        result = await self.ask(4, 6, Chan=channel)
        return str(result.get("TestName", "")).strip(), str(result.get("ProcName", "")).strip()

    async def test_exists(self, test: str) -> bool:
        """Whether there is a test of that name."""
        result = await self.ask(1, 4, TestName=test)
        return str(result.get("TestNameExists")).upper() in {"TRUE", "1"}

    async def set_safety(self, channel: int, **limits: float) -> None:
        """Set the safety limits of a channel, and see that they are kept."""
        result = await self.ask(6, 10, Chan=channel, **limits)
        for key, value in limits.items():
            kept = self.number(result, key)
            if not math.isclose(kept, value, rel_tol=1e-3, abs_tol=1e-6):
                raise InstrumentError(self.name, f"keeps {key} at {kept:g} instead of {value:g}")

    async def start_direct(
        self, channel: int, test: str, output: Output, interval_s: float
    ) -> None:
        """Start direct mode with an output; records every ``interval_s`` in the system's file."""
        records = {"DataTime": interval_s, "DataV": 0, "DataI": 0}
        await self.obey(6, 7, Chan=channel, TestName=test, **_fields(output), **records)

    async def set_direct(self, channel: int, output: Output) -> None:
        """Set (or repeat) the output of direct mode; not more often than every 100 ms."""
        await self.obey(6, 8, Chan=channel, **_fields(output))

    async def reset(self, channel: int) -> None:
        """Abort what a channel does."""
        await self.obey(6, 5, Chan=channel)

    async def obey(self, f_class: int, f_number: int, **parameters: object) -> None:
        """Ask for something that is answered by OK."""
        result = await self.ask(f_class, f_number, **parameters)
        said = result.get("Result")
        if said not in {"OK", 0, "0"}:
            raise Refusal(self.name, f"refuses function {f_class},{f_number}: {said}", said)

    def number(self, result: Mapping[str, Any], key: str) -> float:
        """Return a number of a result."""
        try:
            value = float(result[key])
        except (KeyError, TypeError, ValueError) as error:
            raise InstrumentError(
                self.name, f"tells {key} as {result.get(key)!r}, not as a number"
            ) from error
        if not math.isfinite(value):
            raise InstrumentError(self.name, f"tells {key} as {value}, not as a number")
        return value

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _reply(self) -> dict[str, Any]:
        """Read the reply to the latest request; late ones to earlier requests are skipped."""
        for _ in range(_LATE_MAX):
            reply = await self._object()
            identity = reply.get("id")
            if identity == self._id or not self.echoes_ids or "error" in reply:
                return reply
            if not isinstance(identity, int) or not 0 < identity < self._id:
                self.echoes_ids = False
                return reply
        raise InstrumentError(self.name, "answers requests that were made long ago")

    async def _object(self) -> dict[str, Any]:
        """Read up to the end of one JSON object."""
        now = asyncio.get_running_loop().time
        deadline_s = now() + self._timeout_s
        text = ""
        while len(text) < _REPLY_MAX:
            with wire(self.name):
                try:
                    data = await self._stream.read_until(b"}", max(0.0, deadline_s - now()))
                except TransportTimeout as error:
                    if not text:
                        raise
                    raise InstrumentError(
                        self.name, f"answers {text[:80]!r}, which is no JSON"
                    ) from error
            text += data.decode("utf-8", "replace")
            try:
                found, _ = self._decoder.raw_decode(text.lstrip())
            except json.JSONDecodeError:
                continue  # not all of it is there
            if isinstance(found, dict):
                return found
            break
        raise InstrumentError(self.name, f"answers {text[:80]!r}, which is no reply of MacNet")

    def _result(self, reply: dict[str, Any], f_class: int, f_number: int) -> dict[str, Any]:
        function = f"function {f_class},{f_number}"
        error = reply.get("error")
        if error is not None:
            message = error.get("message") if isinstance(error, dict) else error
            raise Refusal(self.name, f"refuses {function}: {message}", message)
        result = reply.get("result")
        if not isinstance(result, dict):
            raise Refusal(self.name, f"answers {json.dumps(reply)[:80]} to {function}", None)
        if (result.get("FClass"), result.get("FNum")) != (f_class, f_number):
            self._in_step = False
            raise InstrumentError(self.name, f"answers {json.dumps(result)[:80]} to {function}")
        return result


def _fields(output: Output) -> dict[str, object]:
    return {
        "Current": output.current_A,
        "Voltage": output.voltage_V,
        "Power": _IGNORED,
        "Resistance": 0,
        "CurrentRange": output.current_range,
        "ChMode": output.mode,
    }
