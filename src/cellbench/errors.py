"""The errors that cellbench raises on purpose; each is a message for a person, not a traceback."""

from __future__ import annotations


class CellbenchError(Exception):
    """Base of every error that cellbench foresees."""


class InputError(CellbenchError):
    """What the user wrote cannot be carried out: a protocol, card, bench file or command line."""


class InstrumentError(CellbenchError):
    """An instrument is missing, silent, refuses, or answers what its manual does not foresee.

    Args:
        instrument: The name that the bench file gives it, e.g. ``potentiostat``.
        message: What happened, and where it helps, what to do about it.
    """

    def __init__(self, instrument: str, message: str) -> None:
        super().__init__(f"{instrument}: {message}")
        self.instrument = instrument


class InstrumentTimeout(InstrumentError):
    """An instrument did not answer in time; whether it acted is unknown."""


class StoppedThere(InstrumentError):
    """Somebody stopped an instrument by hand: only a person lets it go on."""


class OtherTest(InstrumentError):
    """A cycler does not have the test that it is asked for, and nothing runs on it."""


class TransportClosed(CellbenchError):
    """The connection to an instrument is gone."""


class TransportTimeout(CellbenchError):
    """Nothing (or not enough) arrived in time."""


class StoreError(CellbenchError):
    """The local store cannot keep what it is given: disk full, not writable, unknown version."""
