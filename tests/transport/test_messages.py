"""What bytes say: text by its words and numbers, Modbus by what it asks for."""

from __future__ import annotations

import pytest
from pymodbus.framer import FramerRTU

from cellbench.transport.messages import decode


def rtu(frame: bytes) -> bytes:
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"VOLT 4.8\n", b"VOLT  4.800\r\n"),
        (b"set_i 400u\n", b"set_i 0.4m\n"),
        (b"SOUR:CURR 1e-3\n", b"SOUR:CURR 0.001\n"),
        (b"e\n  cell_off\n\n", b"e\ncell_off\n\n"),
        (b"\x00\x07\x00\x00\x00\x06\x01\x03\x00\x00\x00\x02",
         b"\x01\x08\x00\x00\x00\x06\x01\x03\x00\x00\x00\x02"),
        (rtu(b"\x01\x06\x00\x02\x00\xc8"), rtu(b"\x01\x10\x00\x02\x00\x01\x02\x00\xc8")),
    ],
)  # fmt: skip
def test_the_same_said_otherwise_agrees(one: bytes, other: bytes) -> None:
    assert one != other
    assert decode(one).agrees(decode(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"VOLT 4.8\n", b"VOLT 4.81\n"),
        (b"VOLT 4.8\n", b"CURR 4.8\n"),
        (b"set_i 400u\n", b"set_i 400m\n"),
        (b"a\n", b"a\nb\n"),
        (rtu(b"\x01\x03\x00\x01\x00\x02"), rtu(b"\x02\x03\x00\x01\x00\x02")),
        (rtu(b"\x01\x03\x00\x01\x00\x02"), rtu(b"\x01\x04\x00\x01\x00\x02")),
        (rtu(b"\x01\x06\x00\x02\x00\xc8"), rtu(b"\x01\x06\x00\x02\x00\xc9")),
        (b"\xff\x01", b"\xff\x02"),
    ],
)
def test_another_thing_said_does_not(one: bytes, other: bytes) -> None:
    assert not decode(one).agrees(decode(other))


def test_looks_at_an_instrument_are_routine_and_orders_are_not() -> None:
    assert decode(b"MEAS:VOLT?\n").routine
    assert decode(rtu(b"\x01\x03\x00\x01\x00\x02")).routine
    assert not decode(b"OUTP ON\n").routine
    assert not decode(rtu(b"\x01\x06\x00\x02\x00\xc8")).routine


def test_messages_are_readable() -> None:
    assert decode(b"OUTP ON\r\n").text == "OUTP ON"
    assert decode(b"\r").text == r"'\r'"
    assert "function 3: reads 2 at 1" in decode(rtu(b"\x01\x03\x00\x01\x00\x02")).text
    assert "writes [200] at 2" in decode(rtu(b"\x01\x06\x00\x02\x00\xc8")).text
    assert decode(b"\xff\x01").text == "ff 01"
    # A function that nobody knows is shown, not refused.
    assert "55 00" in decode(rtu(b"\x01\x55\x00\x01")).text


def test_a_transaction_number_ties_an_answer_to_its_request() -> None:
    assert decode(b"\x00\x07\x00\x00\x00\x06\x01\x03\x00\x00\x00\x02").tag == b"\x00\x07"
    assert decode(b"VOLT 4.8\n").tag == b""
