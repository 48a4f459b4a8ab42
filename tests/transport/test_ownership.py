"""Locks by address: which places are one, who is told, and what they survive."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from cellbench.bench import InstrumentEntry
from cellbench.engine.session import part_of
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.registry import load_driver
from cellbench.transport import serial_port
from cellbench.transport.address import place_of
from cellbench.transport.ownership import Ownership, locks_directory, owner_of


@pytest.fixture(autouse=True)
def own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_a_second_owner_is_told_about_the_first() -> None:
    with Ownership("run 7") as first, Ownership("bench check") as second:
        first.take("press", "tcp 192.0.2.1:502")
        with pytest.raises(InstrumentError, match=r"press: is in use by process \d+ \(run 7, sin"):
            second.take("press", "tcp 192.0.2.1:502")
        second.take("press", "tcp 192.0.2.1:503")
        first.tell("run 8")
        assert "run 8" in str(owner_of("tcp 192.0.2.1:502"))
    assert owner_of("tcp 192.0.2.1:502") is None


def test_two_instruments_of_one_bench_may_share_a_place() -> None:
    with Ownership("run 7") as ours:
        ours.take("stand", "serial COM3")
        ours.take("gauge", "serial COM3")
    assert owner_of("serial COM3") is None


def test_an_owner_whose_note_cannot_be_read_still_is_one(own_locks: Path) -> None:
    with Ownership("run 7") as ours:
        ours.take("press", "serial COM3")
        next(own_locks.glob("*.json")).write_text("{nonsense")
        with Ownership("b") as theirs, pytest.raises(InstrumentError, match="another process"):
            theirs.take("press", "serial COM3")


def test_a_note_that_a_dead_process_left_is_no_lock(own_locks: Path) -> None:
    with Ownership("run 7") as ours:
        ours.take("press", "serial COM3")
        note = next(own_locks.glob("*.json"))
        left = note.read_text()
    note.write_text(left)
    assert owner_of("serial COM3") is None


def test_places_differ_however_they_are_written(own_locks: Path) -> None:
    with Ownership("a") as ours:
        ours.take("a", "serial /dev/tty-1")
        ours.take("b", "serial /dev/tty_1")
        assert len(list(own_locks.glob("*.json"))) == 2


def test_where_there_can_be_no_locks_is_said(own_locks: Path) -> None:
    own_locks.write_text("a file")
    with Ownership("a") as ours, pytest.raises(InputError, match="instruments are locked there"):
        ours.take("press", "serial COM3")


def test_locks_are_the_users_and_not_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLBENCH_LOCKS")
    with_session = locks_directory()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert locks_directory() == with_session
    assert Path.home() in with_session.parents


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://127.0.0.1:502", "127.0.0.1"),
        ("127.0.0.1:502", "visa:TCPIP0::127.0.0.1::502::SOCKET"),
        ("localhost", " 127.0.0.1 "),
        ("visa:TCPIP::192.0.2.7::gpib0,5::INSTR", "visa:TCPIP0::192.0.2.7::gpib0,5"),
        (
            "visa:PRLGX-TCPIP::192.0.2.7::1234::INTFC GPIB::5::INSTR",
            "visa:PRLGX-TCPIP0::192.0.2.7::1234::INTFC GPIB0::6::INSTR",
        ),
    ],
)
def test_one_place_can_be_written_in_several_ways(one: str, other: str) -> None:
    assert place_of(one, 502) == place_of(other, 502)


def test_a_serial_port_is_one_by_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform == "win32":
        assert place_of("com7") == place_of("\\\\.\\COM7") == place_of("visa:ASRL7::INSTR")
        return
    device = tmp_path / "ttyUSB0"
    device.touch()
    link = tmp_path / "by-id"
    link.symlink_to(device)
    monkeypatch.setattr(serial_port, "ports", lambda: {str(device): "Nexus [0483:A1AD, 7]"})
    assert place_of(str(link)) == place_of(str(device)) == f"serial {device}"
    for address in ("usb:nexus", "usb:0483:a1ad", f"visa:ASRL{device}::INSTR"):
        assert place_of(address) == f"serial {device}"


def test_a_host_that_nobody_knows_is_a_place_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert place_of("Cycler-PC:502") == "tcp cycler-pc:502"


def part(driver: str, place: str = "tcp 192.0.2.1:502", **options: str) -> str:
    entry = InstrumentEntry.model_validate({"driver": driver, "port": "x", **options})
    return part_of(entry, load_driver(driver), place)


def test_channels_of_a_cycler_and_units_of_a_gateway_have_owners_of_their_own() -> None:
    assert part("neware", channel="27-1-3") != part("neware", channel="27-1-4")
    assert part("eurotherm", unit="1") == part("eurotherm")
    assert part("eurotherm", unit="2") != part("eurotherm")
    assert part("eurotherm", "serial COM3", unit="2") == part("eurotherm", "serial COM3")
