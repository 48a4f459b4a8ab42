"""The Maccor cycler: documented frames, direct mode and its watchdog, procedures, and pymacnet."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.clock import run
from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.maccor import MaccorEmulator
from cellbench_sim.emulators.maccor_steps import RF2, Mode, Output, ProcedureStep
from cellbench_sim.presets import load_preset
from cellbench_sim.serve import serve
from cellbench_sim.world import World

DIRECT = {
    "TestName": "pellet 7", "Current": 0.0, "Voltage": 4.0, "Power": 65536, "Resistance": 0,
    "CurrentRange": 2, "ChMode": "C", "DataTime": 0, "DataV": 0, "DataI": 0,
}  # fmt: skip
OUTPUT = {"Current": 1e-3, "Voltage": 4.0, "Power": 65536, "Resistance": 0, "CurrentRange": 2}
SAFETY = {
    "VSafeMax": 4.5, "VSafeMin": -4.0, "ISafeChg": 4e-3, "ISafeDis": 3e-3, "PBatSafeChg": 20,
    "PBatSafeDis": 20,
}  # fmt: skip
TEST = {"TestName": "Random", "ProcName": "cycle", "Comment": "", "Crate": 1, "ChamberNum": 0}
CYCLE = (
    ProcedureStep(Output(Mode.REST), duration_s=10),
    ProcedureStep(Output(Mode.CHARGE, current_A=1e-3, current_range=2), voltage_V=0.9),
    ProcedureStep(Output(Mode.CHARGE, voltage_V=0.5, current_range=2), current_A=0.6e-3),
    ProcedureStep(
        Output(Mode.DISCHARGE, current_A=1e-3, current_range=2), capacity_Ah=20e-3 / 3600
    ),
)


class Client:
    """A host of the MacNet server."""

    def __init__(self, device: MaccorEmulator) -> None:
        self.device = device
        self.stream = device.connect()

    async def send(self, message: Any) -> dict[str, Any]:
        await self.stream.write(json.dumps(message).encode())
        reply: dict[str, Any] = json.loads(await self.stream.read_until(b"\r\n", 10.0))
        return reply

    async def ask(self, f_class: int, f_number: int, **params: Any) -> dict[str, Any]:
        """Call a function of channel 0, unless told otherwise; return its result."""
        params = {"FClass": f_class, "FNum": f_number, "Chan": 0} | params
        request = {"jsonrpc": "2.0", "method": "MacNet", "params": params, "id": 1987}
        reply = await self.send(request)
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", 1987)
        result: dict[str, Any] = reply["result"]
        assert (result["FClass"], result["FNum"]) == (f_class, f_number)
        return result

    async def word(self, f_class: int, f_number: int, **params: Any) -> str:
        return str((await self.ask(f_class, f_number, **params))["Result"])

    async def status(self) -> tuple[int, int, int]:
        reply = await self.ask(4, 7)
        return reply["Stat"], reply["RF1"], reply["RF2"]

    async def put_out(self, mode: str, **values: Any) -> str:
        return await self.word(6, 8, **OUTPUT | {"ChMode": mode} | values)

    async def start_direct(self, **values: Any) -> None:
        assert await self.word(6, 7, **DIRECT | values) == "OK"
        await asyncio.sleep(1)


Story = Callable[[Client], Awaitable[None]]
Tell = Callable[..., None]


@pytest.fixture
def with_cycler(cell: Any) -> Tell:
    """Return a function that tells a story to a cycler whose first channel is on ``cell``."""
    cell.cell_temperature_K = 303.15

    def tell(story: Story, *, on: Any = None, **options: Any) -> None:
        async def main() -> None:
            cell.time_s = 0.0
            timebase = Timebase()
            timebase.start()
            world = cell if on is None else on
            device = MaccorEmulator(
                "cycler", timebase, world, seed=1, procedures={"cycle": CYCLE}, **options
            )
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Client(device))
                watch.cancel()

        run(main(), virtual=True)

    return tell


# ---------------------------------------------------------------------- frames


def test_readings_are_answered_as_the_help_prints_them(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.stream.write(
            b'{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":4,"FNum":7,"Chan":3},"id":1987}'
        )
        reply = await client.stream.read_until(b"\r\n", 1.0)
        assert reply.count(b"\n") > 10
        message = json.loads(reply)
        assert list(message) == ["jsonrpc", "result", "id"]
        assert list(message["result"]) == [
            "FClass", "FNum", "Chan", "RF1", "RF2", "Stat", "LastRecNum", "Cycle", "Step",
            "TestTime", "StepTime", "Capacity", "Energy", "Current", "Voltage", "TesterTime",
        ]  # fmt: skip
        assert message["result"]["TesterTime"] == "2026-01-01T00:00:00"
        assert b'"TestTime": 0,' in reply

    with_cycler(story)


def test_requests_may_come_in_pieces_and_in_any_layout(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        request = {
            "jsonrpc": "2.0", "method": "MacNet", "id": 'a "}" b\\',
            "params": {"FClass": 1, "FNum": 2},
        }  # fmt: skip
        text = json.dumps(request, indent=4).encode() + b"\r\n"
        for byte in text + text:
            await client.stream.write(bytes([byte]))
        for _ in range(2):
            reply = json.loads(await client.stream.read_until(b"\r\n", 1.0))
            assert reply["result"]["TestChannels"] == 12
            assert reply["id"] == 'a "}" b\\'

    with_cycler(story)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"help", "Parse error"),
        (b"{FClass}", "Parse error"),
        (b"{}", "Method MacNet, jsonrpc 2.0 or id not found"),
        (b'{"jsonrpc":"2.0","method":"macnet","id":1}', "Method MacNet, jsonrpc 2.0 or id not"),
        (b'{"jsonrpc":"2.0","method":"MacNet","id":1}', "Invalid params"),
        (b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FNum":1}}', '"FClass" key does'),
        (b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FClass":9,"FNum":1}}', "FClass"),
        (b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FClass":1,"FNum":99}}', "FNum"),
        (b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FClass":4,"FNum":7}}', "Missing"),
        (
            b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FClass":4,"FNum":7,"Chan":12}}',
            "Illegal value",
        ),
        (
            b'{"jsonrpc":"2.0","method":"MacNet","id":1,"params":{"FClass":4,"FNum":7,"Chan":"1"}}',
            "Illegal value",
        ),
    ],
)
def test_what_is_no_request_is_answered_by_an_error(
    with_cycler: Tell, request_: bytes, error: str
) -> None:
    async def story(client: Client) -> None:
        await client.stream.write(request_)
        reply = json.loads(await client.stream.read_until(b"\r\n", 1.0))
        assert error in reply["error"]["message"]
        assert reply["error"]["code"] < 0
        assert (await client.ask(1, 2))["SystemType"] == 0

    with_cycler(story)


def test_the_system_says_what_it_is(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert await client.ask(0, 0, Any="thing") == {
            "FClass": 0, "FNum": 0, "Chan": 0, "Any": "thing"
        }  # fmt: skip
        assert (await client.ask(1, 1))["APIVersion"] == 1
        assert (await client.ask(1, 3, ProcName="cycle"))["ProcedurExists"] == "TRUE"
        assert (await client.ask(1, 3, ProcName="x"))["ProcedurExists"] == "FALSE"
        assert (await client.ask(1, 4, TestName="x"))["TestNameExists"] == "FALSE"
        assert (await client.ask(1, 5, FileType=1, Command=0))["FileName"] == "cycle.000"
        assert (await client.ask(1, 5, FileType=1, Command=1))["FileName"] == ""
        limits = await client.ask(3, 1)
        assert (limits["Vmax"], limits["Vmin"], limits["IR4Chg"], limits["IR1Dis"]) == (
            5.0, -5.0, 5.0, 150e-6
        )  # fmt: skip
        assert "VoltCalDT" in await client.ask(3, 2)

    with_cycler(story)


def test_several_channels_are_read_at_once(with_cycler: Tell, cell: Any) -> None:
    cell.open_circuit_V = 3.7

    async def story(client: Client) -> None:
        voltages = (await client.ask(4, 2, Len=12))["Voltage"]
        assert voltages[0] == pytest.approx(3.7, abs=2e-3)
        assert voltages[1:] == pytest.approx([0.0] * 11, abs=1e-3)
        assert (await client.ask(4, 3, Chan=10, Len=2))["Current"] == [0.0, 0.0]
        assert (await client.ask(4, 1, Len=2))["Status"] == [{"RF1": 0, "RF2": 128, "Stat": 0}] * 2
        assert (await client.ask(4, 9, Len=2))["TestTimes"] == [0, 0]
        assert (await client.ask(4, 4))["AuxValues"] == [pytest.approx(30.0, abs=0.3)]
        assert (await client.ask(4, 5))["AuxUnit"] == ["C"]
        assert (await client.ask(4, 4, Chan=1))["AuxValues"] == []

    with_cycler(story)


def test_variables_and_flags_are_kept(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert await client.word(6, 9, VarNum=3, Value=2.5) == "OK"
        assert await client.word(5, 1, GlobFlags="0x00000020") == "OK"
        reply = await client.ask(4, 8)
        assert (reply["GlobFlags"], reply["VARs"][2], len(reply["VARs"])) == ("0x00000020", 2.5, 15)
        assert (await client.ask(4, 10))["NumOfEnds"] == 0

    with_cycler(story)


# ---------------------------------------------------------------------- direct mode


def test_direct_mode_drives_what_it_is_told(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        assert (await client.status())[:2] == (2, 1)
        assert await client.put_out("C") == "OK"
        assert cell.terminals() == pytest.approx((1.0, 1e-3), rel=1e-6)
        await asyncio.sleep(9)
        reading = await client.ask(4, 7)
        assert reading["Current"] == pytest.approx(1e-3, rel=1e-3)
        assert reading["Voltage"] == pytest.approx(1.0, rel=1e-3)
        assert reading["Capacity"] == pytest.approx(8e-3 / 3600, rel=0.15)
        assert await client.put_out("D", Current=2e-3, Voltage=-3) == "OK"
        await asyncio.sleep(1)
        reading = await client.ask(4, 7)
        assert (reading["RF1"], reading["Step"], reading["StepTime"]) == (2, 2, 1)
        assert reading["Current"] == pytest.approx(2e-3, rel=1e-3)  # a magnitude
        assert cell.terminals()[1] == pytest.approx(-2e-3)
        assert await client.word(6, 5) == "OK"
        assert cell.is_open
        assert await client.status() == (0, 0, 128)

    with_cycler(story)


def test_currents_can_be_shown_signed(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("D", Voltage=-4)
        assert (await client.ask(4, 7))["Current"] == pytest.approx(-1e-3, rel=1e-3)

    with_cycler(story, signed_current=True)


def test_voltage_and_current_limit_each_other(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C", Current=3e-3, Voltage=2.0)
        assert cell.terminals() == pytest.approx((2.0, 2e-3))
        cell.open_circuit_V = 1.5
        await asyncio.sleep(3)
        assert cell.terminals() == pytest.approx((2.0, 0.5e-3))
        cell.open_circuit_V = -4.0
        await asyncio.sleep(3)
        assert cell.terminals() == pytest.approx((-1.0, 3e-3))
        cell.open_circuit_V = 3.0
        await asyncio.sleep(5)
        assert cell.terminals() == pytest.approx((3.0, 0.0))  # a charge does not discharge

    with_cycler(story)


def test_power_and_resistance_limit_too(with_cycler: Tell, cell: Any) -> None:
    cell.open_circuit_V = 3.0

    async def story(client: Client) -> None:
        await client.start_direct(Current=0, Voltage=4.0, Power=1e-3)
        await client.put_out("C", Current=1e-3, Power=1e-3)
        for _ in range(20):
            await asyncio.sleep(1)
            await client.put_out("C", Current=1e-3, Power=1e-3)
        voltage_V, current_A = cell.terminals()
        assert voltage_V * current_A == pytest.approx(1e-3, rel=0.01)
        await client.word(6, 5)
        await client.start_direct(TestName="b", Current=0, Voltage=0, Resistance=5000)
        await client.put_out("D", Current=4e-3, Voltage=0, Resistance=5000)
        await asyncio.sleep(20)
        voltage_V, current_A = cell.terminals()
        assert voltage_V / -current_A == pytest.approx(5000, rel=0.01)

    with_cycler(story)


def test_what_was_not_active_at_the_start_is_ignored_later(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct(Voltage=65536)
        await client.put_out("C", Current=3e-3, Voltage=2.0)
        assert cell.terminals() == pytest.approx((3.0, 3e-3))

    with_cycler(story)


def test_a_current_beyond_its_range_leaves_the_range_as_the_limit(
    with_cycler: Tell, cell: Any
) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C", Current=1e-3, CurrentRange=1)
        assert cell.terminals()[1] == pytest.approx(150e-6)

    with_cycler(story)


def test_direct_mode_refuses_what_is_out_of_turn(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        assert await client.put_out("C") == "The channel is not active"
        assert await client.word(6, 7, **DIRECT, Chan=12 - 1) == "OK"
        assert await client.word(6, 7, **DIRECT | {"TestName": "b"}, Chan=11) == (
            "Channel not available"
        )
        assert await client.word(6, 7, **DIRECT) == "Test name not unique"
        assert await client.word(6, 7, **DIRECT | {"TestName": "x" * 251}) == "Name too long"
        four = {"TestName": "c", "Power": 1, "Resistance": 5}
        assert await client.word(6, 7, **DIRECT | four) == "Procedure failed"
        assert await client.word(6, 7, **DIRECT | {"TestName": "d"}) == "OK"
        assert (await client.status())[0] == 12
        await asyncio.sleep(0.2)
        assert await client.put_out("C") == "Direct mode is not ready yet"
        await asyncio.sleep(1)
        assert await client.put_out("C") == "OK"
        assert await client.put_out("C") == "Command sent too fast"
        await asyncio.sleep(0.1)
        assert await client.put_out("C") == "OK"

    with_cycler(story)


def test_rest_fails_in_json_unless_told_otherwise(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C")
        await asyncio.sleep(1)
        params = {"FClass": 6, "FNum": 8, "Chan": 0, **OUTPUT, "ChMode": "R"}
        reply = await client.send({"jsonrpc": "2.0", "method": "MacNet", "params": params, "id": 2})
        if "error" in reply:
            assert reply["error"]["message"] == "MacNet error"
            assert cell.terminals()[1] == pytest.approx(1e-3)
        else:
            assert reply["result"]["Result"] == "OK"
            assert cell.is_open

    with_cycler(story)
    with_cycler(story, rest_in_json=True)


def test_the_watchdog_suspends_a_channel_that_is_not_updated(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        for _ in range(10):
            assert await client.put_out("C") == "OK"
            await asyncio.sleep(4)
        assert (await client.status())[0] == 2
        await client.stream.close()
        await asyncio.sleep(0.9)
        assert not cell.is_open
        await asyncio.sleep(0.2)
        assert cell.is_open
        again = Client(client.device)
        assert await again.status() == (3, 30, 192)
        stood_s = (await again.ask(4, 7))["TestTime"]
        assert await again.put_out("C") == "The channel is not active"
        await asyncio.sleep(100)
        assert await again.word(6, 4) == "OK"
        assert cell.terminals()[1] == pytest.approx(1e-3)
        assert (await again.ask(4, 7))["TestTime"] == stood_s
        await asyncio.sleep(5.1)
        assert (await again.status())[0] == 3

    with_cycler(story, watchdog_s=5.0)


def test_without_a_watchdog_direct_mode_goes_on(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C")
        await asyncio.sleep(1e5)
        assert not cell.is_open

    with_cycler(story, watchdog_s=0.0)


def test_safety_limits_are_echoed_as_they_were_set(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        reply = await client.ask(6, 10, **SAFETY)
        assert {name: reply[name] for name in SAFETY} == SAFETY
        reply = await client.ask(6, 10, **SAFETY | {"VSafeMax": 9.0})
        assert reply["VSafeMax"] == pytest.approx(5.25)
        assert (await client.ask(3, 1))["VSafeMax"] == pytest.approx(5.25)

    with_cycler(story)


@pytest.mark.parametrize(
    ("limits", "mode", "reason"),
    [
        ({"VSafeMax": 0.9}, "C", RF2.VOLTAGE_SAFETY),
        ({"VSafeMin": -0.9}, "D", RF2.VOLTAGE_SAFETY),
        ({"ISafeChg": 0.9e-3}, "C", RF2.CURRENT_SAFETY),
        ({"ISafeDis": 0.9e-3}, "D", RF2.CURRENT_SAFETY),
        ({"PBatSafeChg": 0.9e-3}, "C", RF2.POWER_SAFETY),
        ({"PBatSafeDis": 0.9e-3}, "D", RF2.POWER_SAFETY),
    ],
)
def test_safety_limits_stop_a_channel_without_a_host(
    with_cycler: Tell, cell: Any, limits: dict[str, float], mode: str, reason: RF2
) -> None:
    async def story(client: Client) -> None:
        await client.ask(6, 10, **SAFETY | limits)
        await client.start_direct()
        await client.put_out(mode, Voltage=4 if mode == "C" else -4)
        await client.stream.close()
        await asyncio.sleep(0.3)
        assert cell.is_open
        again = Client(client.device)
        assert await again.status() == (5, 29, reason)
        assert await again.word(6, 4) == "Channel not suspended"
        assert await again.word(6, 5) == "OK"

    with_cycler(story)


def test_a_limit_that_is_tightened_holds_at_once(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C")
        await asyncio.sleep(10)
        await client.ask(6, 10, **SAFETY | {"VSafeMax": 0.5})
        assert cell.is_open

    with_cycler(story)


def test_records_follow_time_voltage_and_current(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct(DataTime=10, DataV=0.2, DataI=0)
        await asyncio.sleep(24.6)
        await client.put_out("C")
        await asyncio.sleep(1)
        reasons = [record.reason for record in client.device.channels[0].records]
        assert reasons == [RF2.START_OF_STEP, RF2.TIME, RF2.TIME, RF2.VOLTAGE_CHANGE]
        assert (await client.ask(4, 7))["LastRecNum"] == 4

    with_cycler(story)


# ---------------------------------------------------------------------- procedures


def test_a_procedure_runs_by_itself(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        assert await client.word(6, 11, **TEST) == "OK"
        assert await client.word(6, 2, **TEST) == "OK"
        assert await client.word(6, 2, **TEST) == "Channel in use"
        assert (await client.ask(4, 6))["ProcName"] == "cycle"
        await client.stream.close()
        await asyncio.sleep(5)
        again = Client(client.device)
        assert (await again.ask(4, 7))["RF1"] == 4
        await asyncio.sleep(60)
        assert await again.status() == (4, 31, 193)
        assert cell.is_open
        ends = [record.reason for record in client.device.channels[0].records]
        assert [end for end in ends if end >= 128] == [
            RF2.END_TIME, RF2.END_VOLTAGE, RF2.END_CURRENT, RF2.END_CAPACITY, RF2.NORMAL_END
        ]  # fmt: skip
        assert await again.word(6, 6) == "OK"
        assert (await again.status())[0] == 0

    with_cycler(story)


def test_a_procedure_can_be_suspended_and_resumed(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        assert await client.word(6, 3) == "Channel not active"
        assert await client.word(6, 4) == "Channel not suspended"
        await client.word(6, 2, **TEST)
        await asyncio.sleep(5.5)
        assert await client.put_out("C") == "Direct mode is not active"
        assert await client.word(6, 3) == "OK"
        assert await client.status() == (3, 30, 192)
        await asyncio.sleep(50)
        assert await client.word(6, 4) == "OK"
        await asyncio.sleep(3)
        reading = await client.ask(4, 7)
        assert (reading["Step"], reading["TestTime"]) == (1, 8)

    with_cycler(story)


def test_a_start_is_refused_with_its_reason(with_cycler: Tell) -> None:
    async def story(client: Client) -> None:
        unknown = TEST | {"ProcName": "none"}
        assert await client.word(6, 2, **unknown) == "Procedure does not exist"
        assert await client.word(6, 11, **unknown) == "Procedure does not exist"
        assert await client.word(6, 2, **TEST, Chan=65535) == "No channel selected"
        assert await client.word(6, 1, Chans=[0, 2]) == "OK"
        assert (await client.status())[0] == 1
        assert await client.word(6, 2, **TEST | {"TestName": "a"}, Chan=65535) == "OK"
        assert await client.word(6, 2, **TEST | {"TestName": "a"}, Chan=4) == (
            "Test name not unique"
        )
        assert await client.word(6, 6) == "Channel not completed"

    with_cycler(story)


# ---------------------------------------------------------------------- the other port


def test_the_binary_port_sets_rest(with_cycler: Tell, cell: Any) -> None:
    async def story(client: Client) -> None:
        await client.start_direct()
        await client.put_out("C")
        await asyncio.sleep(1)
        port = client.device.binary.connect()
        message = struct.pack("<HHHHffffBB", 6, 8, 0, 18, 0.0, 0.0, 65536.0, 0.0, 4, ord("R"))
        await port.write(message[:7])
        await port.write(message[7:])
        assert await port.read_exactly(10, 1.0) == struct.pack("<5H", 6, 8, 0, 2, 0)
        assert cell.is_open
        assert (await client.ask(4, 7))["RF1"] == 4
        await port.write(struct.pack("<4H", 6, 5, 0, 0))
        assert (await port.read_exactly(10, 1.0))[-2:] == b"\0\0"
        await port.write(struct.pack("<4H", 6, 5, 99, 0) + struct.pack("<4H", 1, 1, 0, 0))
        assert (await port.read_exactly(20, 1.0))[-2:] == b"\xff\xff"

    with_cycler(story)


@given(st.binary(max_size=200), st.text(max_size=40))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_server_down(with_cycler: Tell, data: bytes, text: str) -> None:
    async def story(client: Client) -> None:
        params = {"FClass": 6, "FNum": 7, "Chan": 0, **DIRECT, "TestName": text, "Current": 10**400}
        request = {"jsonrpc": "2.0", "method": "MacNet", "params": params, "id": text}
        await client.stream.write(json.dumps(request).encode())
        assert b"Illegal value" in await client.stream.read_until(b"\r\n", 1.0)
        await client.stream.write(data)
        client.device.binary.receive(data)
        await client.stream.drain(0.1)
        fresh = Client(client.device)
        assert (await fresh.ask(1, 2))["SystemType"] == 0

    with_cycler(story)


# ---------------------------------------------------------------------- bench files


def test_a_bench_file_describes_the_cycler(cell: Any) -> None:
    options = {"channel": 3, "watchdog": "12 s", "json_rest": True, "port": "simulated"}
    device = MaccorEmulator.from_bench("cycler", Timebase(), cell, seed=1, options=options)
    assert len(device.channels) == 12
    for channel in ("0", "A1"):
        with pytest.raises(InputError, match="from 1"):
            MaccorEmulator.from_bench(
                "cycler", Timebase(), cell, seed=1, options={"channel": channel}
            )


# ---------------------------------------------------------------------- a program of others


def close(client: Any) -> None:
    """Close the sockets of a client that offers no way to do so."""
    for socket in ("json", "bin"):
        getattr(client, f"_CyclerInterface__{socket}_msg_socket").close()


def test_pymacnet_runs_direct_mode_and_a_procedure() -> None:
    pymacnet = pytest.importorskip(
        "pymacnet", reason="pymacnet, an independent client, is not installed"
    )
    world = World(load_preset("LCO_InLi"), seed=3)

    def work(json_port: int, binary_port: int) -> None:
        server = {
            "server_ip": "127.0.0.1", "json_msg_port": json_port, "bin_msg_port": binary_port,
            "msg_buffer_size_bytes": 1024,
        }  # fmt: skip
        cycler = pymacnet.CyclerInterface(server)
        assert cycler.get_num_channels() == 12
        assert cycler.read_system_info()["APIVersion"] == 1
        assert cycler.read_channel_status(4)["Stat"] == 0
        close(cycler)
        channel = pymacnet.ChannelInterface(
            server | {
                "channel": 3, "test_name": "", "test_procedure": "Rest 60 s", "c_rate_ah": 1,
                "v_max_safety_limit_v": 4.25, "v_min_safety_limit_v": 2.0,
                "i_max_safety_limit_a": 0.1, "i_min_safety_limit_a": 0.1,
                "power_safety_limit_chg_w": 1, "power_safety_limit_dsg_w": 1,
                "v_max_v": 4.2, "v_min_v": 2.5, "data_record_time_s": 1,
                "data_record_voltage_delta_vbys": 0, "data_record_current_delta_abys": 0,
            }
        )  # fmt: skip
        assert channel.read_aux()[0] == pytest.approx(25.0, abs=1)
        assert channel.set_channel_variable(1, 2.0)
        assert channel.start_test_with_direct_control()
        time.sleep(0.7)
        assert channel.set_direct_mode_output(0.5e-3, 3.6)
        time.sleep(0.3)
        status = channel.read_channel_status()
        assert (status["Stat"], status["RF1"], status["Chan"]) == (2, 1, 3)
        assert status["Current"] == pytest.approx(0.5e-3, rel=1e-2)
        assert channel.set_direct_mode_output(-0.5e-3)
        assert channel.set_direct_mode_output(0)
        assert channel.reset_channel()
        assert channel.start_test_with_procedure()
        time.sleep(0.7)
        assert channel.read_channel_status()["RF1"] == 4
        assert channel.reset_channel()
        assert channel.read_channel_status()["Stat"] == 0
        close(channel)

    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = MaccorEmulator.from_bench(
            "cycler", timebase, world, seed=1, options={"channel": "3"}
        )
        async with serve([device, device.binary]) as addresses:
            ports = [int(place[0].rpartition(":")[2]) for place in addresses.values()]
            await asyncio.to_thread(work, *ports)

    asyncio.run(main())
