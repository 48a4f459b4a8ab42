"""The instrument's side of EI-Bisynch, the ASCII protocol of older temperature controllers.

Group and unit of the address are each sent twice. A poll is ``EOT GGUU CC ENQ`` and answers ``STX
CC value ETX BCC``, or ``EOT`` if there is no such parameter; a selection is ``EOT GGUU STX CC value
ETX BCC`` and answers ``ACK`` or ``NAK``. BCC is the exclusive or of what follows STX, ETX included.
After a poll the host may send ``ACK`` (go on with the next poll) or ``NAK`` (say it again).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Protocol

_STX, _ETX, _EOT, _ENQ, _ACK, _NAK = 0x02, 0x03, 0x04, 0x05, 0x06, 0x15
_MESSAGE_MAX = 64


class Parameters(Protocol):
    """Parameters by two-letter mnemonic."""

    def read_mnemonic(self, mnemonic: str) -> str | None:
        """Return the displayed value, None if there is no such parameter."""

    def write_mnemonic(self, mnemonic: str, text: str) -> bool:
        """Set a value; return whether it was accepted."""


class BisynchServer:
    """Answers polls and selections in a stream of bytes.

    Args:
        parameters: What can be polled and selected.
        address: Group and unit, one digit each.
    """

    def __init__(self, parameters: Parameters, address: str) -> None:
        group, unit = address[0], address[1]
        self._address = f"{group}{group}{unit}{unit}".encode("ascii")
        self._parameters = parameters
        self._received = bytearray()
        self._last_reply = b""

    def reset(self) -> None:
        """Forget half a message."""
        self._received.clear()

    def feed(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Take in bytes and ``send`` the answer to each complete message."""
        for byte in data:
            # A check character may have any value, that of a control character too.
            if self._received[-1:] == bytes([_ETX]):
                self._received.append(byte)
                self._reply(self._select(bytes(self._received)), send)
            elif byte == _EOT:
                self._received[:] = [_EOT]
            elif self._received:
                self._received.append(byte)
                self._check_poll(byte, send)
            elif byte == _NAK and self._last_reply:
                send(self._last_reply)

    def _check_poll(self, byte: int, send: Callable[[bytes], None]) -> None:
        if byte == _ENQ:
            self._reply(self._poll(bytes(self._received)), send)
        elif len(self._received) > _MESSAGE_MAX:
            self._received.clear()

    def _reply(self, reply: bytes, send: Callable[[bytes], None]) -> None:
        self._received.clear()
        self._last_reply = reply
        if reply:
            send(reply)

    def _poll(self, message: bytes) -> bytes:
        if message[1:5] != self._address or len(message) != 8:
            return b""
        mnemonic = message[5:7].decode("latin-1")
        value = self._parameters.read_mnemonic(mnemonic)
        if value is None:
            return bytes([_EOT])
        body = f"{mnemonic}{value}".encode("ascii") + bytes([_ETX])
        return bytes([_STX]) + body + bytes([check_character(body)])

    def _select(self, message: bytes) -> bytes:
        if message[1:5] != self._address or len(message) < 9 or message[5] != _STX:
            return b""
        body, check = message[6:-1], message[-1]
        if check_character(body) != check:
            return bytes([_NAK])
        mnemonic, text = body[:2].decode("latin-1"), body[2:-1].decode("latin-1")
        return bytes([_ACK if self._parameters.write_mnemonic(mnemonic, text) else _NAK])


def check_character(body: bytes) -> int:
    """Return the BCC of the bytes after STX, ETX included."""
    return functools.reduce(operator.xor, body, 0)
