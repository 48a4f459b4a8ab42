"""The API of Neware's BTS Client 8: XML documents over TCP, one request and its reply at a time.

A request and a reply end in ``#`` and a line break, after the document. Replies are named after
their command (``inquire``, ``inquire_resp``); BTS 8 spells those of downloads ``donwload``. Layouts
are those of captured frames. Whether current comes in A or in mA depends on the installation.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from xml.etree import ElementTree as ET

from cellbench.errors import InstrumentError
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import wire

_HEAD = '<?xml version="1.0" encoding="UTF-8" ?>\n'
_TAIL = "\n\n#\r\n"
_ENDS = b"#\r\n"
_DOCUMENT_ENDS = "</bts>"
#: After a failure the line counts as drained when it has been silent for so long.
_SILENCE_S, _DRAIN_S = 0.2, 5.0
#: Late replies to other commands that are skipped before a reply counts as nonsense.
_LATE_MAX = 3
#: Most rows that one reply carries.
ROWS_MAX = 1000
#: Words of ``workstatus`` in which nothing runs; only then can a test be started.
IDLE = frozenset({"finish", "stop", "protect"})
#: What stands where a channel has no value.
_NONE = "--"
#: The entry of a test's log that names its last row.
_LOG_END = 100001
#: Types of steps in rows, by the sign of their current.
_DIRECTIONS = {"cc": 1.0, "cv": 1.0, "dc": -1.0, "dv": -1.0, "rest": 0.0}
_C_PER_AH = 3600.0
#: Channels whose requests are kept.
_CHANNELS_KNOWN = 1024


class Address(NamedTuple):
    """A channel as the client knows it."""

    ip: str
    device_type: int
    device: int
    unit: int
    channel: int

    @property
    def key(self) -> str:
        """How people and bench files write it."""
        return f"{self.device_type}-{self.device}-{self.unit}-{self.channel}"


class Live(NamedTuple):
    """What a channel is doing, refreshed every 5 s; ``total_s`` is 0 once its test is over."""

    status: str
    barcode: str
    voltage_V: float
    current_A: float
    total_s: float


class Test(NamedTuple):
    """The latest test of a channel: its number, and how many rows can be downloaded."""

    number: int
    rows: int


class Row(NamedTuple):
    """One row: its number in the test, the step of the file, time and charge within that step.

    The charge is the cycler's own count, which sees what flows between two rows; nan where the type
    of the step does not tell its sign.
    """

    number: int
    step: int
    step_ms: int
    voltage_V: float
    current_A: float
    charge_C: float = math.nan


class FinishedStep(NamedTuple):
    """A step that is over, with the number of its first and last row."""

    first_row: int
    last_row: int
    step: int
    duration_ms: int


class Bts:
    """The connection to a BTS Client.

    Args:
        name: The instrument, for errors.
        stream: Its connection.
        timeout_s: How long a reply may take.
        amperes: How many amperes one unit of its currents is.
    """

    def __init__(self, name: str, stream: Stream, timeout_s: float, amperes: float) -> None:
        self.name = name
        self._stream = stream
        self._timeout_s = timeout_s
        self._amperes = amperes
        self._lock = asyncio.Lock()
        self._in_step = True

    async def log_in(self, username: str, password: str) -> None:
        """Introduce ourselves."""
        fields = [_element("username", username), _element("password", password)]
        reply = await self._ask("connect", *fields, _element("type", "bfgs"))
        result = reply.findtext("result", "").strip()
        if result != "ok":
            raise InstrumentError(
                self.name,
                f'answers "{result}" to the user "{username}": is the API switched on in the BTS '
                "Client, and are user and password right?",
            )

    async def channels(self) -> tuple[list[Address], str]:
        """Return the channels that are there, and the version of the client (or nothing)."""
        reply = await self._ask("getdevinfo")
        found = []
        for each in reply.iterfind("middle/channel"):
            keys = ("devtype", "devid", "subdevid", "Channelid")
            found.append(Address(each.get("ip", ""), *(self._whole(each, key) for key in keys)))
        client = reply.find("client")
        return found, "" if client is None else client.get("version", "")

    async def status(self, at: Address) -> str:
        """Return the status word of a channel."""
        # The reply may name another unit; it is known by being the only one.
        return self._text(await self._ask("getchlstatus", _list(_about("status", at, "true"))))

    async def live(self, at: Address) -> Live:
        """Return what a channel is doing; ask no more often than every 5 s."""
        row = self._only(await self._exchange("inquire", _live_request(at)))
        return Live(
            row.get("workstatus", ""),
            row.get("barcode", ""),
            self._reading(row, "voltage"),
            self._reading(row, "current") * self._amperes,
            self._reading(row, "totaltime"),
        )

    async def last_test(self, at: Address) -> Test:
        """Return the latest test of a channel; number 0 where there was none."""
        row = (await self._exchange("inquiredf", _test_request(at))).find("list/chl")
        if row is None:
            return Test(0, 0)
        return Test(self._whole(row, "testid"), self._whole(row, "count"))

    async def rows(self, at: Address, first: int) -> list[Row]:
        """Return up to `ROWS_MAX` rows of the latest test from number ``first`` on, in order."""
        asked = _element("download", None, **_where(at), auxid="0", testid="0")
        asked.set("startpos", str(first))
        asked.set("count", str(ROWS_MAX))
        reply = await self._ask("download", asked)
        rows = [self._row(each) for each in reply.iterfind("list/data")]
        return sorted(rows)

    async def last_row_of_log(self, at: Address) -> int | None:
        """Return the last row of the latest test as its log has it; None while there is no end."""
        reply = await self._ask("downloadlog", _of_latest("download", at))
        ends = [each for each in _entries(reply) if self._whole(each, "log_code") == _LOG_END]
        return self._whole(ends[-1], "seqid") if ends else None

    async def finished_steps(self, at: Address) -> list[FinishedStep]:
        """Return the steps of the latest test that are over, in order."""
        reply = await self._ask(
            "downloadStepLayer", _element("downloadStepLayer", None, **_where(at))
        )
        keys = ("startseqid", "endseqid", "stepid", "steptime")
        steps = [
            FinishedStep(*(self._whole(each, key) for key in keys)) for each in _entries(reply)
        ]
        return sorted(steps)

    async def start(self, at: Address, barcode: str, file_on_pc: str, backup_on_pc: str) -> bool:
        """Start the program of a step file; whether the channel took it.

        Args:
            at: The channel.
            barcode: By what the test is known.
            file_on_pc: The file as the computer of the BTS Client sees it.
            backup_on_pc: The folder there, into which the client backs the data up.
        """
        start = _about("start", at, file_on_pc, barcode=barcode)
        backup = _element(
            "backup",
            None,
            backupdir=backup_on_pc,
            remotedir="",
            filenametype="0",
            customfilename="",
            addtimewhenrepeat="0",
            createdirbydate="0",
            filetype="0",
            backupontime="1",
            backupontimeinterval="720",
            backupfree="1",
        )
        return self._text(await self._ask("start", _list(start, backup))) == "ok"

    async def stop(self, at: Address) -> bool:
        """Stop a channel; whether it says that it obeys."""
        return self._text(await self._ask("stop", _list(_about("stop", at, "true")))) == "ok"

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _ask(self, command: str, *content: ET.Element) -> ET.Element:
        return await self._exchange(command, _request(command, *content))

    async def _exchange(self, command: str, data: bytes) -> ET.Element:
        async with self._lock:
            with wire(self.name):
                if await stay_connected(self._stream) or not self._in_step:
                    await self._stream.drain(_SILENCE_S, _DRAIN_S)
            self._in_step = False
            with wire(self.name):
                await self._stream.write(data)
            reply = await self._reply(command)
            self._in_step = True
        return reply

    async def _reply(self, command: str) -> ET.Element:
        """Read the reply to a command; late ones to others are skipped."""
        expected = {f"{command}_resp", f"{command}_resp".replace("download", "donwload")}
        said = ""
        for _ in range(_LATE_MAX):
            with wire(self.name):
                data = await self._stream.read_until(_ENDS, self._timeout_s)
            reply = self._parsed(data)
            said = reply.findtext("cmd", "").strip()
            if said in expected:
                return reply
        raise InstrumentError(self.name, f'answers "{said}" to {command}')

    def _parsed(self, data: bytes) -> ET.Element:
        text = data.decode("utf-8", "replace")
        document = text[: text.rfind(_DOCUMENT_ENDS) + len(_DOCUMENT_ENDS)].strip()
        try:
            # Entities of the outside are not resolved, and expat bounds those of the inside.
            return ET.fromstring(document)  # noqa: S314
        except ET.ParseError as error:
            raise InstrumentError(
                self.name, f"answers {text[:80]!r}, which is no XML: {error}"
            ) from error

    def _only(self, reply: ET.Element) -> ET.Element:
        rows = reply.findall("list/*")
        if not rows:
            raise InstrumentError(self.name, f"answers {reply.findtext('cmd')} with nothing in it")
        return rows[0]

    def _text(self, reply: ET.Element) -> str:
        return (self._only(reply).text or "").strip()

    def _row(self, row: ET.Element) -> Row:
        return Row(
            self._whole(row, "seqid"),
            self._whole(row, "stepid"),
            self._whole(row, "testtime"),
            self._float(row, "volt"),
            self._float(row, "curr") * self._amperes,
            self._charge_C(row),
        )

    def _charge_C(self, row: ET.Element) -> float:
        """The charge of a step so far, which the cycler counts without a sign."""
        sign = _DIRECTIONS.get(row.get("steptype", ""), math.nan)
        return sign * self._reading(row, "cap") * self._amperes * _C_PER_AH

    def _reading(self, row: ET.Element, key: str) -> float:
        """A live value, nan where the channel has none."""
        return math.nan if row.get(key, _NONE) == _NONE else self._float(row, key)

    def _whole(self, row: ET.Element, key: str) -> int:
        value = self._float(row, key)
        if not value.is_integer():
            raise InstrumentError(self.name, f'tells {key}="{row.get(key)}", not a whole number')
        return int(value)

    def _float(self, row: ET.Element, key: str) -> float:
        text = row.get(key, "")
        try:
            value = float(text)
        except ValueError as error:
            raise InstrumentError(self.name, f'tells {key}="{text}", not a number') from error
        if not math.isfinite(value):
            raise InstrumentError(self.name, f'tells {key}="{text}", not a number')
        return value


def _request(command: str, *content: ET.Element) -> bytes:
    request = ET.Element("bts", version="1.0")
    request.append(_element("cmd", command))
    request.extend(content)
    return (_HEAD + ET.tostring(request, encoding="unicode") + _TAIL).encode()


@lru_cache(_CHANNELS_KNOWN)
def _live_request(at: Address) -> bytes:
    """What a channel is asked every few seconds, made once; so is the next."""
    asked = _about("inquire", at, "true", aux="0", barcode="1")
    return _request("inquire", _list(asked))


@lru_cache(_CHANNELS_KNOWN)
def _test_request(at: Address) -> bytes:
    return _request("inquiredf", _list(_of_latest("chl", at)))


def _entries(reply: ET.Element) -> Iterator[ET.Element]:
    return reply.iterfind("list/data")


def _element(tag: str, text: str | None, **attributes: str) -> ET.Element:
    element = ET.Element(tag, attributes)
    element.text = text
    return element


def _list(first: ET.Element, *more: ET.Element) -> ET.Element:
    """A list about one channel."""
    listed = ET.Element("list", count="1")
    listed.extend([first, *more])
    return listed


def _where(at: Address) -> dict[str, str]:
    return {
        "devtype": str(at.device_type),
        "devid": str(at.device),
        "subdevid": str(at.unit),
        "chlid": str(at.channel),
    }


def _about(tag: str, at: Address, text: str, **attributes: str) -> ET.Element:
    return _element(tag, text, ip=at.ip, **_where(at), **attributes)


def _of_latest(tag: str, at: Address) -> ET.Element:
    return _element(tag, None, **_where(at), testid="0")
