"""Serial settings of a bench file in the place of the driver's."""

from __future__ import annotations

from typing import Any

import pytest

from cellbench.bench import InstrumentEntry, parse_bench
from cellbench.engine.session import open_instrument
from cellbench.errors import InputError
from cellbench.instruments.registry import load_driver
from cellbench.protocol.source import document_of, load
from cellbench.transport import SerialSettings, Stream, pipe, serial_port


def entry(text: str) -> InstrumentEntry:
    written = f"bench: b\ninstruments:\n  it: {text}\n"
    return parse_bench(load(document_of(written, "bench.yaml"))).instruments["it"]


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("{baudrate: 2400}", SerialSettings(2400)),
        ("{baudrate: 2400, parity: E}", SerialSettings(2400, parity="E")),
        ("{parity: none, stopbits: 2}", SerialSettings(9600, parity="N", stopbits=2)),
        (
            "{bytesize: 7, parity: Odd, rtscts: true, xonxoff: false}",
            SerialSettings(9600, bytesize=7, parity="O", rtscts=True),
        ),
        ("{}", SerialSettings(9600)),
    ],
)
async def test_what_is_written_is_set(
    written: str, settings: SerialSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, SerialSettings]] = []

    async def open_serial(port: str, used: SerialSettings) -> Stream:
        opened.append((port, used))
        return pipe()[0]

    monkeypatch.setattr(serial_port, "open_serial", open_serial)
    it = entry(
        f"{{driver: load_cell_transmitter, port: COM7, profile: seneca_z_sg, serial: {written}}}"
    )
    driver = load_driver(it.driver)
    await open_instrument("it", it, driver, None)
    assert opened == [("COM7", settings)]
    # They are the port's, and none of the driver's options.
    driver("it", pipe()[0], it.options)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{baud: 2400}", 'did you mean "baudrate"?'),
        (
            "{baudrate: fast}",
            '"baudrate" must be a valid integer',
        ),
        ("{baudrate: 0}", '"baudrate"'),
        ("{bytesize: 9}", '"9" must be 7 or 8'),
        ("{parity: maybe}", '"maybe" must be "N", "E" or "O"'),
        ("{stopbits: 3}", '"3" must be 1 or 2'),
        ("2400", '"serial"'),
    ],
)
def test_what_cannot_be_set_is_said_with_its_place(written: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        entry(f"{{driver: eurotherm, port: COM7, serial: {written}}}")
    assert said in str(refused.value)
    assert "bench.yaml, line 3" in str(refused.value)


async def test_an_instrument_without_a_serial_port_has_no_settings() -> None:
    it: Any = entry("{driver: memmert, port: 192.0.2.1, serial: {baudrate: 9600}}")
    with pytest.raises(InputError, match="memmert has no serial port"):
        await open_instrument("it", it, load_driver("memmert"), None)
