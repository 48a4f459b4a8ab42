"""The served bench, with programs that nobody here wrote as its hosts."""

from __future__ import annotations

import asyncio
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError
from cellbench_sim.bench import SimulatedBench

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def served(
    story: Callable[[dict[str, str]], Awaitable[None]],
    *,
    ptys: bool = False,
    speed: float = 1.0,
    **options: Any,
) -> None:
    """Tell a story to a served bench; addresses by instrument (of its terminal with ``ptys``)."""

    async def main() -> None:
        bench = SimulatedBench("LYC_PMMA", 7, **options)
        async with bench, bench.serve(ptys=ptys) as addresses:
            await story({name: places[-1] for name, places in addresses.items()})

    run(main(), virtual=True, speed=speed)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run a blocking program; the bench's time goes on meanwhile."""
    done = asyncio.get_running_loop().create_future()

    def finish(result: Any, error: BaseException | None) -> None:
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def target() -> None:
        try:
            outcome, error = work(), None
        except BaseException as caught:  # noqa: BLE001 (raised again in the test)
            outcome, error = None, caught
        loop.call_soon_threadsafe(finish, outcome, error)

    loop = asyncio.get_running_loop()
    threading.Thread(target=target, daemon=True).start()
    while not done.done():
        await asyncio.sleep(0.01)
    return done.result()


def test_pymodbus_reads_and_drives_the_press() -> None:
    client_module = pytest.importorskip("pymodbus.client")

    async def story(addresses: dict[str, str]) -> None:
        host, port = addresses["press"].removeprefix("tcp://").split(":")
        client = client_module.AsyncModbusTcpClient(host, port=int(port))
        assert await client.connect()
        target = list(struct.unpack("<2H", struct.pack("<f", 1.0)))
        await client.write_registers(108, list(struct.unpack("<2H", struct.pack("<f", 60.0))))
        await client.write_register(100, 6)
        await client.write_registers(101, target)
        await client.write_registers(103, target)
        await client.write_register(100, 3)
        await asyncio.sleep(10)
        words = (await client.read_holding_registers(0, count=10)).registers
        (force_kN,) = struct.unpack("<f", struct.pack("<2H", *words[2:4]))
        assert force_kN == pytest.approx(1.0, abs=0.01)
        assert words[0] & 0b1011 == 0b1011
        assert (await client.read_holding_registers(50, count=1)).exception_code == 2
        client.close()

    served(story, speed=10.0)


def test_hosts_come_and_go() -> None:
    async def story(addresses: dict[str, str]) -> None:
        host, port = addresses["load cell"].removeprefix("tcp://").split(":")
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"model\r")
            assert await reader.readline() == b"DI-1000U\r\n"
            writer.close()
        _, first = await asyncio.open_connection(host, int(port))
        reader, second = await asyncio.open_connection(host, int(port))
        second.write(b"model\r")
        assert await reader.readline() == b"DI-1000U\r\n"
        first.close()
        second.close()

    served(story)


def test_time_passes_at_the_scale_that_was_asked_for() -> None:
    async def story(addresses: dict[str, str]) -> None:
        host, port = addresses["load cell"].removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        started_s = time.perf_counter()
        for _ in range(20):
            writer.write(b"tare\r")
            assert await reader.readline() == b"Tared\r\n"
        # A loop that was held up catches up, so only the order of magnitude is certain.
        assert 0.01 < time.perf_counter() - started_s < 10
        writer.close()

    served(story, speed=100.0)


def test_an_independent_driver_runs_scripts_on_the_potentiostat() -> None:
    driver = pytest.importorskip("labmcp_palmsens.driver")
    tcp = pytest.importorskip("labmcp.transports.tcp")

    def drive(address: str) -> tuple[Any, ...]:
        host, port = address.removeprefix("tcp://").split(":")
        transport = tcp.TCPTransport(host, int(port))
        device = driver.MethodScriptDevice(transport)
        script = driver.build_script(
            "meas_loop_ca p c 100m 100m 2",
            begin_potential_v=0, e_min=-1, e_max=1, pgstat_mode=2, bandwidth_hz=60,
            current_range_a=1e-3, autorange=True, equilibration_s=0,
        )  # fmt: skip
        faulty = ["set_pgstat_mode 2", "cell_on", "set_e 20"]
        answers = device.identify(), device.execute(script, 30), device.execute(faulty, 30)
        transport.close()
        return answers

    async def story(addresses: dict[str, str]) -> None:
        identity, measured, faulty = await in_thread(lambda: drive(addresses["potentiostat"]))
        assert identity["model"] == "Nexus"
        assert len(measured.packets) == 20
        assert not measured.malformed
        assert "000F" in faulty.error
        assert faulty.cell_off_sent

    served(story)


@posix_only
def test_minimalmodbus_reads_and_sets_the_chamber() -> None:
    minimalmodbus = pytest.importorskip("minimalmodbus")

    def drive(path: str) -> tuple[float, float]:
        instrument = minimalmodbus.Instrument(path, 1)
        instrument.serial.timeout = 2
        instrument.write_register(2, 40.0, number_of_decimals=1, functioncode=6)
        instrument.write_register(2, 45.0, number_of_decimals=1, functioncode=16)
        measured = instrument.read_register(1, 1, signed=True)
        target = instrument.read_register(2, 1, signed=True)
        instrument.serial.close()
        return measured, target

    async def story(addresses: dict[str, str]) -> None:
        measured, target = await in_thread(lambda: drive(addresses["chamber"]))
        assert measured == pytest.approx(25, abs=5)
        assert target == 45.0

    served(story, ptys=True)


@posix_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_public_client_of_the_load_cell_reads_it() -> None:
    async def story(addresses: dict[str, str]) -> None:
        module = pytest.importorskip("loadstar_sensors_interface")
        client = module.LoadstarSensorsInterface()
        await client.open_high_speed_serial_connection(addresses["load cell"])
        assert await client.get_model() == "DI-1000U"
        assert await client.tare()
        assert await client.get_adc_value() == pytest.approx(0, abs=50_000)
        client.start_getting_sensor_values()
        await asyncio.sleep(2)
        await client.stop_getting_sensor_values()
        assert client.get_sensor_value_count() > 5
        client._writer.close()
        await asyncio.sleep(0.1)

    # The client converts what it reads to grams, so the load cell has to speak of mass. It waits a
    # moment for each answer, and takes one that is late for the next: its time is the computer's.
    served(story, ptys=True, speed=1.0, load_cell_unit="Kg")


@posix_only
def test_a_terminal_that_nobody_reads_does_not_stop_the_bench() -> None:
    async def story(addresses: dict[str, str]) -> None:
        with open(addresses["load cell"], "wb", buffering=0) as line:  # noqa: ASYNC230, PTH123
            line.write(b"wc\r")
            await asyncio.sleep(200)

    served(story, ptys=True, speed=400.0)


def test_windows_says_that_it_has_no_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    async def story(addresses: dict[str, str]) -> None:
        raise AssertionError(addresses)

    with pytest.raises(InputError, match="pseudo-terminals"):
        served(story, ptys=True)
