"""The Memmert driver against a small AtmoWEB: requests by the letter, answers as untidy as real."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError, InstrumentTimeout, TransportClosed
from cellbench.instruments.readings import ChamberState, Identity, Outcome
from cellbench.instruments.roles import Chamber
from cellbench.transport import Stream, pipe
from cellbench.transport.tcp import open_tcp
from cellbench_drivers.memmert import Memmert, nearly_json

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Unknown\r\nConnection: close\r\n\r\n"


class AtmoWeb(Stream):
    """A chamber that keeps values: it answers once per connection, piece by piece, and hangs up."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {
            "DevType": '"UF55plus"',
            "SN": '"B123.0001"',
            "SWRev": '"5.0"',
            "TempSet_Range": '{"min": 20.0, "max": 300.0}',
            "CurOp": '"Manual"',
            "Temp1Read": "23.412",
            "TempSet": "25.0",
            "AlTempLo": "10.0",
            "AlTempHi": "90.0",
            "DoorOpen": "0",
        }
        self.queries: list[str] = []
        self.keeps = True
        self.silent_after: int | None = None
        self.answers: bytes | None = None
        self.refusals = 0
        self.connections = 0
        self._coming: list[asyncio.TimerHandle] = []

    async def _hang_up(self) -> None:
        for arrival in self._coming:
            arrival.cancel()

    async def _open_anew(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise TransportClosed("refused")
        self.connections += 1

    async def _send(self, data: bytes) -> None:
        line, _, rest = data.decode().partition("\r\n")
        assert rest == "Host: atmoweb\r\nConnection: close\r\n\r\n"
        method, target, version = line.split(" ")
        assert (method, version) == ("GET", "HTTP/1.1")
        path, _, query = target.partition("?")
        assert path == "/atmoweb"
        self.queries.append(query)
        answer = self.answers or HEAD + self._body(query).encode()
        loop = asyncio.get_running_loop()
        pieces = [answer[at : at + 37] for at in range(0, len(answer), 37)]
        self._coming = [
            loop.call_later(0.01 * (number + 1), self.feed, piece)
            for number, piece in enumerate(pieces[: self.silent_after])
        ]
        if self.silent_after is None:
            gone = TransportClosed("the other end closed the connection")
            self._coming.append(loop.call_later(0.01 * (len(pieces) + 1), self.fail, gone))

    def _body(self, query: str) -> str:
        lines = []
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if value and self.keeps:
                self.values[key] = value if key != "CurOp" else f'"{value}"'
            lines.append(f'"{key}": {self.values.get(key, "N/A")},')
        return "\r\n".join(lines)


def played(
    act: Callable[[Memmert, AtmoWeb], Awaitable[Any]],
    options: dict[str, Any] | None = None,
    **values: str,
) -> Any:
    async def scenario() -> Any:
        web = AtmoWeb()
        web.values.update(values)
        return await act(Memmert("oven", web, options or {}), web)

    return run(scenario(), virtual=True)


async def read(chamber: Memmert, web: AtmoWeb) -> ChamberState:
    return await chamber.read()


def test_it_plays_the_role_of_a_chamber() -> None:
    assert isinstance(Memmert("oven", pipe()[0], {}), Chamber)


@pytest.mark.parametrize(
    "body",
    [
        '{"Temp1Read": 23.4, "HumRead": "N/A"}',
        '{"Temp1Read": 23.4, "HumRead": N/A,}',
        '"Temp1Read": 23.4,\r\n"HumRead": N/A,\r\n',
        '{"Temp1Read": 23.4,\n"HumRead": "N/A",\n',
        ' {"Temp1Read":23.4,"HumRead":N/A , } ',
    ],
)
def test_what_is_nearly_json_is_read(body: str) -> None:
    assert nearly_json(body) == {"Temp1Read": 23.4, "HumRead": "N/A"}


def test_a_range_inside_a_fragment_keeps_its_braces() -> None:
    body = '"TempSet_Range": {"min": 20, "max": 300,},'
    assert nearly_json(body) == {"TempSet_Range": {"min": 20, "max": 300}}


@pytest.mark.parametrize("body", ["<html>not found</html>", "12.3", '{"Temp1Read" 23}', '"a": [1'])
def test_what_is_no_such_thing_is_nothing(body: str) -> None:
    assert nearly_json(body) is None


def test_an_empty_answer_has_no_values() -> None:
    assert nearly_json("") == {}


def test_connecting_identifies_it_in_one_request_and_changes_nothing() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> tuple[Identity, list[str], float]:
        identity = await chamber.connect()
        return identity, web.queries, chamber.capabilities.temperature_min_K

    identity, queries, lowest_K = played(act, {"temperature min": "0 degC"})
    assert (identity.model, identity.serial) == ("Memmert UF55plus", "B123.0001")
    assert identity.firmware == "5.0"
    assert identity.remarks[-1] == "found at 23.4 degC"
    assert queries == ["DevType=&SN=&SWRev=&TempSet_Range=&CurOp=&Temp1Read="]
    assert lowest_K == pytest.approx(293.15)


def test_a_range_that_is_not_told_is_said() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> Identity:
        return await chamber.connect()

    identity = played(act, TempSet_Range="N/A", CurOp='"Program"')
    assert "does not tell the range of its set point" in identity.remarks
    assert "found in Program operation, not in Manual" in identity.remarks


def test_each_request_has_a_connection_of_its_own() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> int:
        await chamber.read()
        await chamber.read()
        return web.connections

    assert played(act) == 2


def test_a_look_tells_temperature_and_set_point() -> None:
    state = played(read)
    assert state.temperature_K == pytest.approx(296.562)
    assert state.set_point_K == pytest.approx(298.15)
    assert state.alarm == ""


def test_a_set_point_is_written_once_and_read_back() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> list[str]:
        await chamber.set_temperature(333.15)
        return web.queries

    assert played(act) == ["TempSet=60.0", "TempSet=&CurOp="]


def test_manual_operation_is_asked_for_only_once_the_set_point_stands() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> list[str]:
        await chamber.set_temperature(333.15)
        return web.queries

    queries = played(act, CurOp='"Idle"')
    assert queries == ["TempSet=60.0", "TempSet=&CurOp=", "CurOp=Manual", "TempSet=&CurOp="]


def test_a_set_point_that_is_not_taken_is_an_error_and_not_sent_again() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> list[str]:
        web.keeps = False
        with pytest.raises(InstrumentError, match=r"keeps a set point of 25 degC instead of 60\.0"):
            await chamber.set_temperature(333.15)
        return web.queries

    assert played(act, CurOp='"Idle"') == ["TempSet=60.0", "TempSet=&CurOp="]


def test_one_that_stays_in_its_program_is_an_error() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> None:
        web.keeps = False
        with pytest.raises(InstrumentError, match="stays in Program operation"):
            await chamber.set_temperature(333.15)

    played(act, CurOp='"Program"', TempSet="60.0")


def test_set_points_outside_the_chamber_are_refused_before_anything_is_sent() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> None:
        with pytest.raises(InstrumentError, match="outside"):
            await chamber.set_temperature(500.0)
        assert not web.queries

    played(act)


def test_a_temperature_that_there_is_not_is_no_reading() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> None:
        with pytest.raises(InstrumentError, match='"N/A" to Temp1Read'):
            await chamber.read()

    played(act, Temp1Read="N/A")


def test_alarm_limits_and_a_change_of_operation_are_alarms() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> str:
        await chamber.set_temperature(333.15)
        web.values.update(Temp1Read="95.0", CurOp='"Idle"', DoorOpen="1")
        return (await chamber.read()).alarm

    alarm = played(act, {"door is alarm": True})
    assert alarm == "above its alarm limit of 90 degC, was taken to Idle operation, door open"
    assert played(read, Temp1Read="5").alarm == "below its alarm limit of 10 degC"
    assert played(read, AlTempLo="N/A", AlTempHi="N/D", DoorOpen="1").alarm == ""


def test_a_chamber_that_is_busy_is_tried_again() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> ChamberState:
        web.refusals = 2
        return await chamber.read()

    assert played(act).set_point_K == pytest.approx(298.15)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP 403.*remote control"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is not HTTP"),
        (HEAD + b"<html>busy</html>", "makes no sense"),
        (HEAD + b'{"TempSet": 25.0}', "does not answer Temp1Read, only: TempSet"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "breaks off|is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "is not HTTP"),
    ],
)
def test_other_answers_are_told(answer: bytes, text: str) -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> None:
        web.answers = answer
        with pytest.raises(InstrumentError, match=text):
            await chamber.read()
        web.answers = None
        await chamber.read()

    played(act)


def test_an_answer_that_stops_in_the_middle_times_out_and_the_next_is_whole() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> float:
        web.silent_after = 3
        with pytest.raises(InstrumentTimeout):
            await chamber.read()
        assert asyncio.get_running_loop().time() == pytest.approx(5.0, abs=0.1)
        web.silent_after = None
        return (await chamber.read()).set_point_K

    assert played(act) == pytest.approx(298.15)


def test_a_cancelled_request_leaves_the_next_one_whole() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(chamber.read(), 0.025)
        return (await chamber.read()).set_point_K

    assert played(act) == pytest.approx(298.15)


def test_quiet_says_what_it_holds_or_that_it_is_unknown() -> None:
    async def act(chamber: Memmert, web: AtmoWeb) -> list[Outcome]:
        first = await chamber.quiet()
        web.refusals = 99
        return [first, await chamber.quiet()]

    held, unknown = played(act)
    assert held == Outcome("oven", "holds 25.0 degC", confirmed=True)
    assert not unknown.confirmed
    assert "refused" in unknown.state


async def test_it_talks_over_real_connections() -> None:
    served = AtmoWeb()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The last connection is opened and given up without a question.
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            query = head.split(b" ")[1].decode().partition("?")[2]
            writer.write(HEAD + served._body(query).encode())
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        stream = await open_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        chamber = Memmert("oven", stream, {})
        await chamber.connect()
        await chamber.set_temperature(333.15)
        assert (await chamber.read()).set_point_K == pytest.approx(333.15)
        await chamber.close()
