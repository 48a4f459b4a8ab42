"""What all drivers share: options of a bench file, and how failures of the wire are told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

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
    named = {key.replace(" ", "_").lower(): value for key, value in options.items()}
    try:
        return model.model_validate(named)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        known = ", ".join(sorted(model.model_fields))
        raise InputError(f"{name}: {faults} (options are: {known})") from error


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


Frequency = Annotated[float, _quantity("frequency")]
Force = Annotated[float, _quantity("force")]
ForceRate = Annotated[float, _quantity("rate of force")]
Duration = Annotated[float, _quantity("time")]
Temperature = Annotated[float, _quantity("temperature")]
TemperatureRate = Annotated[float, _quantity("rate of temperature")]


@contextlib.contextmanager
def wire(name: str) -> Iterator[None]:
    """Turn failures of the connection into errors of the instrument ``name``."""
    try:
        yield
    except InstrumentError:
        raise
    except TransportTimeout as error:
        raise InstrumentTimeout(name, f"does not answer ({error})") from error
    except TransportClosed as error:
        raise InstrumentError(name, f"the connection is gone ({error})") from error
    except CellbenchError as error:
        raise InstrumentError(name, str(error)) from error
