"""Telling people and programs of a run: MQTT and alerts, beside the run and never in its way."""

from cellbench.telemetry.beside import Beside
from cellbench.telemetry.commands import COMMANDS, Commands
from cellbench.telemetry.configuration import Telemetry, read_telemetry
from cellbench.telemetry.follow import follow
from cellbench.telemetry.watched import Picture, Say, Watched

__all__ = [
    "COMMANDS",
    "Beside",
    "Commands",
    "Picture",
    "Say",
    "Telemetry",
    "Watched",
    "follow",
    "read_telemetry",
]
