"""What all drivers share: options of a bench file, and how failures of the wire are told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, TypeVar, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cellbench.errors import (
    CellbenchError,
    InputError,
    InstrumentError,
    InstrumentTimeout,
    TransportClosed,
    TransportTimeout,
)
from cellbench.quantities import QuantityError, parse


class Options(BaseModel):
    """Options of one driver; an option that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(name: str, model: type[OptionsT], options: Mapping[str, Any]) -> OptionsT:
    """Return the options of instrument ``name``; ``f max`` and ``f_max`` are the same option.

    Raises:
        InputError: An option is unknown or its value is not possible.
    """
    try:
        return model.model_validate(_named(options, model))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        known = ", ".join(sorted(model.model_fields))
        raise InputError(f"{name}: {faults} (options are: {known})") from error


def _named(options: Mapping[str, Any], model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Options by their names in Python; names that people give in a dictionary stay as they are."""
    named = {}
    for key, value in options.items():
        name = key.replace(" ", "_").lower()
        field = None if model is None else model.model_fields.get(name)
        given = field is not None and get_origin(field.annotation) is dict
        named[name] = _named(value) if isinstance(value, Mapping) and not given else value
    return named


def _quantity(dimension: str) -> BeforeValidator:
    """A validator that reads text such as ``1 MHz``; numbers are in SI units already."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value, dimension)
        except QuantityError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


Voltage = Annotated[float, _quantity("voltage")]
Current = Annotated[float, _quantity("current")]
Frequency = Annotated[float, _quantity("frequency")]
Force = Annotated[float, _quantity("force")]
Area = Annotated[float, _quantity("area")]
Pressure = Annotated[float, _quantity("pressure")]
ForceRate = Annotated[float, _quantity("rate of force")]
Duration = Annotated[float, _quantity("time")]
Charge = Annotated[float, _quantity("charge")]
Temperature = Annotated[float, _quantity("temperature")]
TemperatureRate = Annotated[float, _quantity("rate of temperature")]


async def to_the_end(clean_up: Coroutine[Any, Any, None]) -> None:
    """Carry out a clean-up to its end, also when cancelled meanwhile; that is then raised after it.

    For what must not be left half done, such as opening a cell; it has to have deadlines itself.
    """
    task, cancelled = asyncio.ensure_future(clean_up), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    task.result()


class wire:  # noqa: N801 (reads as what it is: with wire(name))
    """Turn failures of the connection into errors of the instrument ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """Raise what the failure means for the instrument."""
        if isinstance(error, CellbenchError) and not isinstance(error, InstrumentError):
            raise self.failed(error) from error

    def failed(self, error: CellbenchError) -> InstrumentError:
        """Return what a failure means for the instrument.

        For what is done for each sample: "try" costs nothing where nothing fails, "with" does.
        """
        match error:
            case TransportTimeout():
                return InstrumentTimeout(self._name, f"does not answer ({error})")
            case TransportClosed():
                return InstrumentError(self._name, f"the connection is gone ({error})")
            case _:
                return InstrumentError(self._name, str(error))
