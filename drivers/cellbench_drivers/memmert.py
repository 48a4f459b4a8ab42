"""Memmert chambers with AtmoWEB: one HTTP request per connection, answers that are nearly JSON.

``GET /atmoweb?Temp1Read=&TempSet=`` asks for several values, ``TempSet=60.0`` sets one. The answer
comes as HTTP 200 without a length and ends with the connection. Its body may lack the outer braces
or carry a trailing comma; a value that there is not is ``N/A`` or ``N/D``, quoted or bare. What a
write answers is not looked at: every one is read back.

The chamber keeps its set point while ``CurOp`` is ``Manual``; remote control must be switched on in
its menu. Never verified on a chamber: that writing ``CurOp=Manual`` takes it there, the shape of
``TempSet_Range`` (taken for ``{"min": ..., "max": ...}``) and of ``DoorOpen`` (taken for 0 or 1).

Source: the PyPI package ``pyatmoweb``, and Memmert's notes on AtmoWEB.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import h11
from pydantic import Field

from cellbench.errors import InstrumentError, TransportClosed, TransportTimeout
from cellbench.instruments.capabilities import ChamberCapabilities
from cellbench.instruments.readings import ChamberState, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.reconnect import reconnect
from cellbench.transport.stream import Stream
from cellbench_drivers.chambers import ZERO_CELSIUS_K, check_set_point, still_holds
from cellbench_drivers.common import (
    Duration,
    Options,
    Temperature,
    TemperatureRate,
    parse_options,
    wire,
)

_LOOK = ("Temp1Read", "TempSet", "CurOp", "AlTempLo", "AlTempHi", "DoorOpen")
_MANUAL = "Manual"
_OPEN = (1, "1", "Open")
_OK = 200
_CHUNK_BYTES = 4096
#: Half of the coarsest last digit, and a bit.
_SAME_K = 0.06
_MINUTE_S = 60.0


class MemmertOptions(Options):
    """Options in the bench file.

    Attributes:
        temperature_min: Lowest set point of the chamber.
        temperature_max: Highest set point of the chamber.
        rate_max: How fast it warms at most, for planning.
        door_is_alarm: Whether an open door ends a run.
        host: What the request calls the chamber, for servers that care.
        timeout: How long an answer may take.
    """

    temperature_min: Temperature = 293.15
    temperature_max: Temperature = 373.15
    rate_max: TemperatureRate = Field(default=2.0 / _MINUTE_S, gt=0)
    door_is_alarm: bool = False
    host: str = "atmoweb"
    timeout: Duration = Field(default=5.0, gt=0)


class Memmert:
    """A Memmert oven, incubator or climate chamber."""

    role: ClassVar[str] = "chamber"
    summary: ClassVar[str] = "Memmert chambers with AtmoWEB (HTTP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 80

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, MemmertOptions, options)
        self._stream = stream
        self._lock = asyncio.Lock()
        self._ordered = False
        self._lowest_K = self._options.temperature_min
        self._highest_K = self._options.temperature_max
        self.capabilities = self._capabilities("Memmert")

    async def connect(self) -> Identity:
        """Find out what it is and how far it goes; changes nothing."""
        told = await self._ask("DevType", "SN", "SWRev", "TempSet_Range", "CurOp", "Temp1Read")
        model = f"Memmert {self._text(told, 'DevType')}"
        remarks = ["model and firmware never tried with this driver"]
        if not self._take_range(told.get("TempSet_Range")):
            remarks.append("does not tell the range of its set point")
        if (doing := self._text(told, "CurOp")) != _MANUAL:
            remarks.append(f"found in {doing} operation, not in {_MANUAL}")
        remarks.append(f"found at {self._celsius(told, 'Temp1Read'):.1f} degC")
        self.capabilities = self._capabilities(model)
        firmware = self._text(told, "SWRev")
        return Identity(model, self._text(told, "SN"), firmware, tuple(remarks))

    async def set_temperature(self, temperature_K: float) -> None:
        """Give it a set point and have it in manual operation; both are read back.

        Raises:
            InstrumentError: It is out of range, or the chamber does not take it.
        """
        check_set_point(self.name, self.capabilities, temperature_K)
        celsius = temperature_K - ZERO_CELSIUS_K
        await self._get(f"TempSet={celsius:.1f}")
        if await self._operation_with(celsius) != _MANUAL:
            await self._get(f"CurOp={_MANUAL}")
            if (doing := await self._operation_with(celsius)) != _MANUAL:
                message = f"stays in {doing} operation: set it to manual at its panel"
                raise InstrumentError(self.name, message)
        self._ordered = True

    async def read(self) -> ChamberState:
        """Look at it: temperature, set point, its own alarm limits."""
        told = await self._ask(*_LOOK)
        temperature_C = self._celsius(told, "Temp1Read")
        return ChamberState(
            time_s=asyncio.get_running_loop().time(),
            temperature_K=temperature_C + ZERO_CELSIUS_K,
            set_point_K=self._celsius(told, "TempSet") + ZERO_CELSIUS_K,
            alarm=", ".join(self._alarms(told, temperature_C)),
        )

    async def quiet(self) -> Outcome:
        """Hold: the chamber keeps its set point by itself; read that back."""
        return await still_holds(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _operation_with(self, celsius: float) -> str:
        """Return the kind of operation, once sure that the set point is ``celsius``."""
        found = await self._ask("TempSet", "CurOp")
        found_C, doing = self._celsius(found, "TempSet"), self._text(found, "CurOp")
        if abs(found_C - celsius) > _SAME_K:
            message = (
                f"keeps a set point of {found_C:g} degC instead of {celsius:.1f} degC, in {doing} "
                "operation: set it to manual at its panel, with remote control on in its menu"
            )
            raise InstrumentError(self.name, message)
        return doing

    def _alarms(self, told: Mapping[str, Any], temperature_C: float) -> list[str]:
        alarms = []
        lowest_C, highest_C = _number(told.get("AlTempLo")), _number(told.get("AlTempHi"))
        if temperature_C < lowest_C:
            alarms.append(f"below its alarm limit of {lowest_C:g} degC")
        if temperature_C > highest_C:
            alarms.append(f"above its alarm limit of {highest_C:g} degC")
        if self._ordered and (doing := self._text(told, "CurOp")) != _MANUAL:
            alarms.append(f"was taken to {doing} operation")
        if self._options.door_is_alarm and told.get("DoorOpen") in _OPEN:
            alarms.append("door open")
        return alarms

    def _take_range(self, told: Any) -> bool:
        """Narrow the range of set points to what the chamber tells, if it does."""
        if not isinstance(told, dict):
            return False
        lowest_C, highest_C = _number(told.get("min")), _number(told.get("max"))
        if not lowest_C < highest_C:
            return False
        self._lowest_K = max(self._lowest_K, lowest_C + ZERO_CELSIUS_K)
        self._highest_K = min(self._highest_K, highest_C + ZERO_CELSIUS_K)
        return True

    def _capabilities(self, model: str) -> ChamberCapabilities:
        return ChamberCapabilities(
            model=model,
            temperature_min_K=self._lowest_K,
            temperature_max_K=self._highest_K,
            rate_max_K_per_s=self._options.rate_max,
        )

    def _text(self, told: Mapping[str, Any], key: str) -> str:
        if key not in told:
            message = f"does not answer {key}, only: {', '.join(told) or 'nothing'}"
            raise InstrumentError(self.name, message)
        return str(told[key])

    def _celsius(self, told: Mapping[str, Any], key: str) -> float:
        text = self._text(told, key)
        if math.isnan(value := _number(text)):
            raise InstrumentError(self.name, f'answers "{text}" to {key} instead of a number')
        return value

    async def _ask(self, *keys: str) -> dict[str, Any]:
        body = await self._get("&".join(f"{key}=" for key in keys))
        told = nearly_json(body)
        if told is None:
            raise InstrumentError(self.name, f"answers {body[:200]!r}, which makes no sense")
        return told

    async def _get(self, query: str) -> str:
        """Make one request on a connection of its own, once, and return the body of the answer."""
        async with self._lock:
            with self._wire:
                await reconnect(self._stream)
                try:
                    status, body = await self._exchange(query)
                except h11.RemoteProtocolError as error:
                    message = f"its answer to {query} is not HTTP: {error}"
                    raise InstrumentError(self.name, message) from error
        if status != _OK:
            message = (
                f"answers HTTP {status} to {query}: is remote control switched on in its menu?"
            )
            raise InstrumentError(self.name, message)
        return body.decode("utf-8", "replace")

    async def _exchange(self, query: str) -> tuple[int, bytes]:
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method="GET",
            target=f"/atmoweb?{query}",
            headers=[("Host", self._options.host), ("Connection", "close")],
        )
        sent = http.send(request) or b""
        await self._stream.write(sent + (http.send(h11.EndOfMessage()) or b""))
        deadline_s = asyncio.get_running_loop().time() + self._options.timeout
        status, body = 0, b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await self._some(deadline_s))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                raise InstrumentError(self.name, f"its answer to {query} breaks off")
        return status, body

    async def _some(self, deadline_s: float) -> bytes:
        """Return what has arrived, nothing at the end of the connection."""
        left_s = deadline_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise TransportTimeout("no whole answer in time")
        try:
            first = await self._stream.read_exactly(1, left_s)
        except TransportClosed:
            return b""
        return first + await self._stream.read_exactly(len(self._stream.peek(_CHUNK_BYTES)), left_s)


def nearly_json(body: str) -> dict[str, Any] | None:
    """Read what is JSON but for missing outer braces, trailing commas and bare ``N/A``.

    Returns:
        The values by name; None where that is not what it is.
    """
    text = body.strip().rstrip(",").rstrip()
    if not text.startswith("{"):
        text = "{" + text
    text = re.sub(r":\s*(N/[AD])\b", r': "\1"', text)
    text += "}" * (text.count("{") - text.count("}"))
    text = re.sub(r",\s*([}\]])", r"\1", text)
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _number(value: Any) -> float:
    """A number as AtmoWEB gives it, as text too; nan where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
