"""Drivers that nobody here wrote (PyMeasure, labmcp), over TCP, as hosts of the emulated units."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.keithley import KeithleyEmulator
from cellbench_sim.serve import serve

# Other people's programs warn of what they like.
pytestmark = pytest.mark.filterwarnings("default")


def hosted(work: Callable[[str], Any], cell: Any, model: str) -> Any:
    """Run a blocking program on a served unit, given its VISA address; return its result."""
    cell.open_circuit_V = 3.7
    results: list[Any] = []

    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = KeithleyEmulator("smu", timebase, cell, seed=1, model=model)
        async with serve([device]) as addresses:
            host, port = addresses["smu"][0].removeprefix("tcp://").split(":")
            address = f"TCPIP::{host}::{port}::SOCKET"
            thread = threading.Thread(target=lambda: results.append(guarded(work, address)))
            thread.start()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                while thread.is_alive():
                    await asyncio.sleep(0.01)
                watch.cancel()
            thread.join()

    run(main(), virtual=True, speed=1.0)
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def guarded(work: Callable[[str], Any], address: str) -> Any:
    try:
        return work(address)
    except BaseException as error:  # noqa: BLE001 (raised again in the test)
        return error


def opened(name: str, address: str) -> Any:
    return getattr(pytest.importorskip("pymeasure.instruments.keithley"), name)(
        address, visa_library="@py", read_termination="\n", write_termination="\n", timeout=5000
    )


def test_pymeasure_charges_with_the_2450(cell: Any) -> None:
    def work(address: str) -> dict[str, Any]:
        unit = opened("Keithley2450", address)
        unit.reset()
        found: dict[str, Any] = {"id": unit.id}
        unit.current_output_off_state = "HIMP"
        unit.apply_current(current_range=1e-3, compliance_voltage=4.5)
        unit.source_current = 5e-4
        unit.measure_voltage(nplc=0.1)
        unit.enable_source()
        found["on"] = unit.source_enabled
        found["voltage"] = unit.voltage
        found["limit"] = unit.compliance_voltage
        unit.source_current = 1e-3
        found["limited"] = unit.voltage
        found["range"] = unit.source_current_range
        found["nplc"] = unit.voltage_nplc
        unit.ramp_to_current(1e-4, steps=3, pause=0.01)
        found["ramped"] = unit.source_current
        unit.shutdown()
        unit.adapter.close()
        return found

    found = hosted(work, cell, "2450")
    assert found["id"] == "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"
    assert found["on"] is True
    assert found["voltage"] == pytest.approx(4.2, abs=2e-3)
    assert found["limited"] == pytest.approx(4.5, abs=2e-3)
    assert (found["limit"], found["range"], found["nplc"]) == (4.5, 1e-3, 0.1)
    assert found["ramped"] == pytest.approx(1e-4)
    assert cell.is_open


def test_pymeasure_holds_a_voltage_with_the_2450(cell: Any) -> None:
    def work(address: str) -> tuple[Any, ...]:
        unit = opened("Keithley2450", address)
        unit.apply_voltage(voltage_range=20, compliance_current=1e-2)
        unit.voltage_output_off_state = "HIMP"
        unit.source_voltage = 4.2
        unit.measure_current(nplc=1, current=1e-3, auto_range=False)
        unit.wires = 4
        unit.current_filter_count = 3
        unit.current_filter_state = "ON"
        unit.enable_source()
        found = unit.current, unit.current_range, unit.wires, unit.next_error
        unit.disable_source()
        unit.adapter.close()
        return found

    current_A, range_A, wires, error = hosted(work, cell, "2450")
    assert current_A == pytest.approx(5e-4, rel=5e-3)
    assert (range_A, wires) == (1e-3, 4)
    assert int(error[0]) == 0
    assert cell.is_open


def test_pymeasure_measures_with_the_2400(cell: Any) -> None:
    def work(address: str) -> dict[str, Any]:
        unit = opened("Keithley2400", address)
        unit.reset()
        unit.reset_data_format()
        found: dict[str, Any] = {}
        unit.output_off_state = "HIMP"
        unit.source_mode = "current"
        unit.source_current_range = 1e-3
        unit.compliance_voltage = 6
        unit.source_current = 5e-4
        unit.current_nplc = 0.1
        unit.source_enabled = True
        found["voltage"], found["current"] = unit.voltage, unit.current
        found["all"] = unit.measure_all()
        found["mode"], found["off"] = unit.source_mode, unit.output_off_state
        found["errors"] = unit.check_errors()
        unit.source_enabled = False
        unit.adapter.close()
        return found

    found = hosted(work, cell, "2400")
    assert found["voltage"] == pytest.approx(4.2, abs=3e-3)
    assert found["current"] == pytest.approx(5e-4, rel=2e-3)
    assert found["all"]["resistance"] == pytest.approx(8400, rel=5e-3)
    assert found["all"]["voltage"] == pytest.approx(4.2, abs=3e-3)
    assert found["mode"] == "current"
    assert found["errors"] == []
    assert cell.is_open


def test_pymeasure_fills_the_buffer_of_the_2400(cell: Any) -> None:
    def work(address: str) -> tuple[Any, ...]:
        unit = opened("Keithley2400", address)
        unit.output_off_state = "HIMP"
        unit.compliance_current = 1e-2
        unit.source_voltage = 4.7
        unit.current_nplc = 0.1
        unit.source_enabled = True
        unit.config_buffer(points=10, delay=0)
        unit.start_buffer()
        started_s = time.monotonic()
        unit.wait_for_buffer(timeout=10, interval=0.02)
        lasted_s = time.monotonic() - started_s
        data, means = unit.buffer_data, unit.means
        unit.source_enabled = False
        unit.adapter.close()
        return lasted_s, data, means

    lasted_s, data, means = hosted(work, cell, "2400")
    assert lasted_s < 5
    assert len(data) == 50
    assert data.reshape(10, 5)[:, 1] == pytest.approx([1e-3] * 10, rel=5e-3)
    assert means[1] == pytest.approx(1e-3, rel=5e-3)


def test_pyvisa_reads_the_trigger_models_buffer(cell: Any) -> None:
    pyvisa = pytest.importorskip("pyvisa")

    def work(address: str) -> tuple[Any, ...]:
        manager = pyvisa.ResourceManager("@py")
        unit = manager.open_resource(
            address, read_termination="\n", write_termination="\n", timeout=5000
        )
        for message in (
            "*RST;*CLS", "OUTP:SMOD HIMP", "SOUR:FUNC CURR;:SENS:FUNC 'VOLT'",
            "SENS:VOLT:NPLC 0.1;RSEN ON", "SOUR:CURR:VLIM 6;:SOUR:CURR 1e-3",
            'TRIG:LOAD "SimpleLoop",20,0.01,"defbuffer1"', "INIT",
        ):  # fmt: skip
            unit.write(message)
        unit.query("*OPC?")
        count = int(unit.query("TRAC:ACT?"))
        values = unit.query_ascii_values(f'TRAC:DATA? 1,{count},"defbuffer1",READ,REL')
        last_words = unit.query("OUTP?"), unit.query("SYST:ERR?")
        unit.close()
        manager.close()
        return values, last_words

    values, last_words = hosted(work, cell, "2450")
    assert values[0::2] == pytest.approx([4.7] * 20, abs=2e-3)
    assert values[1::2] == sorted(values[1::2])
    assert last_words == ("0", '0,"No error;0,0,0"')
    assert cell.is_open


@pytest.mark.parametrize("model", ["2450", "2400"])
def test_labmcp_sweeps_and_stops_at_the_limit(cell: Any, model: str) -> None:
    driver = pytest.importorskip("labmcp_keithley_smu.driver")
    tcp = pytest.importorskip("labmcp.transports.tcp")

    def work(address: str) -> tuple[Any, ...]:
        host, port = address.split("::")[1:3]
        unit = driver.open_smu(tcp.TCPTransport(host, int(port)))
        unit.configure("current", 0.0, 4.5, source_range=1e-3, nplc=0.1)
        unit.set_remote_sense(True)
        data = unit.sweep("current", [0.0, 4e-4, 9e-4, 1e-3], stop_on_compliance=True)
        status = unit.status()
        unit.close()
        return unit.dialect, data, status

    dialect, data, status = hosted(work, cell, model)
    assert dialect == model
    assert data.stop_reason == "compliance reached at 0.0009"
    voltages_V = [reading.voltage_v for reading in data.readings]
    assert voltages_V == pytest.approx([3.7, 4.1, 4.5], abs=3e-3)
    assert (status.output_on, status.compliance) == (False, 4.5)
