"""Finding drivers: by entry point (group ``cellbench.drivers``), or in a plain file.

A driver is a class that plays one of the roles. It is built from the name that the bench file gives
the instrument, an open stream, and its own options.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cellbench.errors import InputError
from cellbench.instruments.roles import Instrument
from cellbench.transport import SerialSettings, Stream


class Driver(Protocol):
    """The class side of a driver: how the bench builds one.

    Attributes:
        role: ``channel``, ``press``, ``gauge``, ``chamber`` or ``switch``.
        summary: One line for ``cellbench drivers``: the instruments that it speaks to.
        serial: Settings of its serial port, None where it has none.
        tcp_port: The TCP port that it listens on by default, None where it has none.

    A driver may also have ``usb``: words or ids (``0483:A1AD``) of which one stands in what its
    instruments say of themselves on USB; ``cellbench bench scan`` then suggests it.
    """

    role: ClassVar[str]
    summary: ClassVar[str]
    serial: ClassVar[SerialSettings | None]
    tcp_port: ClassVar[int | None]

    def __call__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> Instrument:
        """Build a driver; raises InputError for an option that it does not know."""


def driver_names() -> list[str]:
    """Names of the installed drivers, in order."""
    return sorted(point.name for point in entry_points(group="cellbench.drivers"))


def load_driver(name: str, beside: Path | None = None) -> Driver:
    """Return a driver by its registered name, or ``file.py:Class`` relative to ``beside``.

    Raises:
        InputError: There is no such driver.
    """
    if ".py:" in name:
        return _from_file(name, beside or Path())
    return _installed(name)


@cache
def _installed(name: str) -> Driver:
    """Find a driver once: to look through what is installed takes as long as to check a protocol.

    Raises:
        InputError: There is no such driver.
    """
    for point in entry_points(group="cellbench.drivers", name=name):
        driver: Driver = point.load()
        return driver
    raise InputError(f'there is no driver "{name}"; installed are: {", ".join(driver_names())}')


def _from_file(reference: str, beside: Path) -> Driver:
    file_name, class_name = reference.rsplit(":", 1)
    path = beside / file_name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"there is no driver file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a laboratory's own file does wrong
        raise InputError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    driver: Driver | None = getattr(module, class_name, None)
    if driver is None:
        raise InputError(f"{path} has no class {class_name}")
    return driver
