"""Lines of ASCII over a connection that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError, InstrumentTimeout, TransportClosed
from cellbench.transport import Stream
from cellbench_drivers.lines import Lines


class Instrument(Stream):
    """Answers each line with its capitals; its connection can be cut, and refuse to come back."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []
        self.refusals = 0
        self.opened = 0
        self.silent = False
        self.cut_after: bytes | None = None

    async def _send(self, data: bytes) -> None:
        self.heard.append(data)
        if data == self.cut_after:
            self.cut_after = None
            self.fail(TransportClosed("cable pulled"))
        elif not self.silent:
            self.feed(data.upper())

    async def _open_anew(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise TransportClosed("no such port")
        self.opened += 1


def talked(act: Callable[[Lines, Instrument], Awaitable[None]]) -> Instrument:
    async def scenario() -> Instrument:
        instrument = Instrument()

        async def resynchronise() -> None:
            if await lines.ask("hello") != "HELLO":
                raise InstrumentError("gauge", "does not greet")

        lines = Lines("gauge", instrument, resynchronise=resynchronise)
        assert await lines.ask("first") == "FIRST"
        await act(lines, instrument)
        return instrument

    return run(scenario(), virtual=True)


def test_the_next_exchange_connects_drains_and_resynchronises_before_it_asks() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        instrument.feed(b"late answer\n")
        instrument.fail(TransportClosed("cable pulled"))
        assert await lines.ask("w") == "W"

    instrument = talked(act)
    assert instrument.heard == [b"hello\n", b"first\n", b"hello\n", b"w\n"]
    assert instrument.opened == 1


@pytest.mark.parametrize("command", ["start 1", "w"])
def test_what_was_under_way_when_the_connection_went_is_an_error_and_not_sent_again(
    command: str,
) -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        instrument.cut_after = f"{command}\n".encode()
        with pytest.raises(InstrumentError, match=r"connection is gone \(cable pulled\)"):
            await lines.ask(command)
        assert await lines.ask("w") == "W"

    heard = talked(act).heard
    assert heard[2:] == [f"{command}\n".encode(), b"hello\n", b"w\n"]


def test_a_command_without_reply_connects_first_too() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        instrument.fail(TransportClosed("cable pulled"))
        await lines.tell("start 1")

    assert talked(act).heard[2:] == [b"hello\n", b"start 1\n"]


def test_connecting_again_is_bounded_and_tried_anew_by_the_exchange_after() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        instrument.fail(TransportClosed("cable pulled"))
        instrument.refusals = 6
        with pytest.raises(InstrumentError, match="in 4 attempts: no such port"):
            await lines.ask("w")
        assert await lines.ask("w") == "W"

    assert talked(act).opened == 1


def test_a_line_that_goes_again_while_it_resynchronises_does_not_go_round_in_circles() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        instrument.fail(TransportClosed("cable pulled"))
        instrument.cut_after = b"hello\n"
        with pytest.raises(InstrumentError, match="cable pulled"):
            await lines.ask("w")
        assert await lines.ask("w") == "W"

    assert talked(act).heard[2:] == [b"hello\n", b"hello\n", b"w\n"]


def test_a_resynchronisation_that_fails_is_made_again() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        lines.out_of_step()
        instrument.silent = True
        with pytest.raises(InstrumentTimeout):
            await lines.ask("w")
        instrument.silent = False
        assert await lines.ask("w") == "W"

    assert talked(act).heard[2:] == [b"hello\n", b"hello\n", b"w\n"]


def test_a_line_given_up_does_not_connect_again() -> None:
    async def act(lines: Lines, instrument: Instrument) -> None:
        await lines.close()
        with pytest.raises(InstrumentError, match=r"connection is gone \(closed\)"):
            await lines.ask("w")
        assert asyncio.get_running_loop().time() < 1.0

    assert talked(act).opened == 0
