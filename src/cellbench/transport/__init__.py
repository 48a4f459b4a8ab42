"""Bytes to and from instruments: serial ports, VISA, TCP, Modbus frames, in-memory pipes."""

from cellbench.transport.memory import pipe
from cellbench.transport.settings import SerialSettings
from cellbench.transport.stream import Stream

__all__ = ["SerialSettings", "Stream", "pipe"]
