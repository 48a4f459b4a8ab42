"""What crosses the border of BioLogic's OEM library: structures, error codes, checked arguments.

Sources: the manual of the vendor's development package (calls, structures, error codes; "aligned
on double-word", that is packed to four bytes) and its public header. A caller has structures of its
own: they are compared with these by what lies where, as the library would take it, never by name.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import (
    POINTER,
    Array,
    Structure,
    _Pointer,
    _SimpleCData,
    addressof,
    c_char,
    c_double,
    c_float,
    c_int32,
    sizeof,
)
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeVar, overload

#: Words that one call of BL_GetData can return.
BUFFER_WORDS = 1000
LABEL_BYTES = 64


class ErrorCode(IntEnum):
    """What the library returns."""

    NOERROR = 0
    NOTCONNECTED = -1
    CHANNELNOTPLUGGED = -3
    INVALIDPARAMETERS = -4
    FUNCTIONFAILED = -6
    NOCHANNELSELECTED = -7
    INVALIDCONF = -8
    CHANNEL_RUNNING = -13
    DEVICE_NOTALLOWED = -14
    UPDATEPARAMETERS = -15
    COMMFAILED = -200
    CONNECTIONFAILED = -201
    INVALIDIPADDRESS = -203
    FIRMINVALIDFILE = -302
    FIRMWARENOTLOADED = -308
    ECCFILENOTEXISTS = -400
    INCOMPATIBLEECC = -401
    LOADTECHNIQUEFAILED = -403


class Failure(Exception):
    """A call cannot be done, and nobody is to blame."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Misuse(Failure):
    """A call that no program should make: the stand-in's reason to complain."""


class _Packed(Structure):
    """A structure of the library."""

    _pack_ = 4
    _layout_ = "ms"


def _ints(names: str) -> list[tuple[str, Any]]:
    return [(name, c_int32) for name in names.split()]


def _floats(names: str) -> list[tuple[str, Any]]:
    return [(name, c_float) for name in names.split()]


class DeviceInfos(_Packed):
    """What BL_Connect tells of an instrument."""

    _fields_ = _ints(
        "DeviceCode RAMSize CPU NumberOfChannels NumberOfSlots FirmwareVersion FirmwareDate_yyyy "
        "FirmwareDate_mm FirmwareDate_dd HTdisplayOn NbOfConnectedPC"
    )


class ChannelInfos(_Packed):
    """What BL_GetChannelInfos tells of a channel."""

    _fields_ = _ints(
        "Channel BoardVersion BoardSerialNumber FirmwareCode FirmwareVersion XilinxVersion AmpCode "
        "NbAmps Lcboard Zboard reserved1 reserved2 MemSize MemFilled State MaxIRange MinIRange "
        "MaxBandwidth NbOfTechniques"
    )


class CurrentValues(_Packed):
    """State and present readings of a channel."""

    _fields_ = [
        *_ints("State MemFilled"),
        *_floats("TimeBase Ewe EweRangeMin EweRangeMax Ece EceRangeMin EceRangeMax"),
        *_ints("Eoverflow"),
        *_floats("I"),
        *_ints("IRange Ioverflow"),
        *_floats("ElapsedTime Freq Rcomp"),
        *_ints("Saturation OptErr OptPos"),
    ]


class DataInfos(_Packed):
    """What the rows are that BL_GetData returns; the double lies 28 bytes in."""

    _fields_ = [
        *_ints("IRQskipped NbRows NbCols TechniqueIndex TechniqueID ProcessIndex loop"),
        ("StartTime", c_double),
        *_ints("MuxPad"),
    ]


class EccParam(_Packed):
    """One parameter of a technique; the value holds bits whose meaning its type says."""

    _fields_ = [
        ("ParamStr", c_char * LABEL_BYTES),
        *_ints("ParamType ParamVal ParamIndex"),
    ]


class EccParams(_Packed):
    """An array of parameters; the pointer lies 4 bytes in, on 64 bits too."""

    _fields_ = [("len", c_int32), ("pParams", POINTER(EccParam))]


class HardwareConf(_Packed):
    """Electrode connection and instrument ground."""

    _fields_ = _ints("Conn Ground")


# ---------------------------------------------------------------------- what lies where


def layout_of(kind: type[Any]) -> tuple[tuple[int, str, int], ...]:
    """Return offset, kind and size of everything in a ctypes type; bytes in a row are one."""
    if issubclass(kind, Structure):
        parts = [(field[0], field[1]) for field in kind._fields_]
        return tuple(
            (getattr(kind, name).offset + offset, code, size)
            for name, part in parts
            for offset, code, size in layout_of(part)
        )
    if issubclass(kind, Array):
        element: type[Any] = vars(kind)["_type_"]
        length: int = vars(kind)["_length_"]
        if sizeof(element) == 1:
            return ((0, "bytes", length),)
        return tuple(
            (step * sizeof(element) + offset, code, size)
            for step in range(length)
            for offset, code, size in layout_of(element)
        )
    if issubclass(kind, _Pointer):
        return ((0, "pointer", sizeof(kind)),)
    return ((0, _code_of(kind), sizeof(kind)),)


def _code_of(kind: type[Any]) -> str:
    code = str(getattr(kind, "_type_", "?"))
    for name, codes in (("integer", "bBhHiIlLqQ?"), ("float", "fd"), ("pointer", "PzO")):
        if code in codes:
            return name
    return code


def _require_layout(theirs: type[Any], ours: type[Any]) -> None:
    """Raise Misuse unless a caller's structure holds at least ours, each thing at its place."""
    wanted, found = layout_of(ours), layout_of(theirs)
    for number, place in enumerate(wanted):
        other = found[number] if number < len(found) else None
        if other != place:
            raise Misuse(
                ErrorCode.INVALIDPARAMETERS,
                f"{theirs.__name__} is no {ours.__name__}: the library has {place[2]} bytes of "
                f"{place[1]} at offset {place[0]}, the caller {_said(other)}",
            )


def _said(place: tuple[int, str, int] | None) -> str:
    return "nothing" if place is None else f"{place[2]} bytes of {place[1]} at offset {place[0]}"


# ---------------------------------------------------------------------- arguments


class Argument(Protocol):
    """One argument of a call: takes what was passed, or raises Misuse."""

    def take(self, passed: Any) -> Any:
        """Return what the implementation works with."""


def _wrong(passed: Any, wanted: str) -> Misuse:
    return Misuse(
        ErrorCode.INVALIDPARAMETERS, f"{wanted} is wanted, not {type(passed).__name__} {passed!r}"
    )


@dataclass(frozen=True)
class Scalar:
    """A number by value: a ctypes value of just this width, or one that ctypes would convert."""

    name: str
    codes: str
    size: int
    lowest: float
    highest: float
    plain: tuple[type, ...] = (int,)

    def take(self, passed: Any) -> Any:
        """Return it as Python's."""
        if isinstance(passed, _SimpleCData):
            if self.fits(type(passed)):
                return passed.value
        elif self._is_plain(passed) and self.lowest <= passed <= self.highest:
            return passed
        raise _wrong(passed, self.name)

    def _is_plain(self, passed: Any) -> bool:
        # Python counts a bool among the integers; C's prototypes do not.
        return isinstance(passed, self.plain) and isinstance(passed, bool) == (bool in self.plain)

    def fits(self, kind: type[Any]) -> bool:
        """Whether a ctypes type is this one."""
        return str(getattr(kind, "_type_", "")) in self.codes and sizeof(kind) == self.size


INT32 = Scalar("an int32", "il", 4, -(2**31), 2**31 - 1)
UINT32 = Scalar("a uint32", "IL", 4, 0, 2**32 - 1)
UINT8 = Scalar("a uint8", "B", 1, 0, 255)
BOOLEAN = Scalar("a bool of one byte", "?B", 1, 0, 1, (bool,))
SINGLE = Scalar("a single", "f", 4, -3.5e38, 3.5e38, (float, int))
DOUBLE = Scalar("a double", "d", 8, -1.8e308, 1.8e308, (float, int))


@dataclass(frozen=True)
class Text:
    """A C string."""

    optional: bool = False

    def take(self, passed: Any) -> bytes | None:
        """Return its bytes."""
        if passed is None and self.optional:
            return None
        if isinstance(passed, _SimpleCData) and getattr(passed, "_type_", "") == "z":
            return self.take(passed.value)
        if isinstance(passed, Array) and getattr(passed, "_type_", None) is c_char:
            return bytes(passed.value)
        if isinstance(passed, bytes) and b"\0" not in passed:
            return passed
        raise _wrong(passed, "a C string (bytes, c_char_p)")


def _pointed_at(passed: Any, wanted: str) -> Any:
    """Return what a pointer, a reference or an array leads to."""
    if type(passed).__name__ == "CArgObject":
        return passed._obj  # noqa: SLF001 (the only way to what byref was given)
    if isinstance(passed, Array):
        return passed
    if isinstance(passed, _Pointer) and passed:
        return passed.contents
    raise _wrong(passed, f"a pointer to {wanted}")


@dataclass(frozen=True)
class Reference:
    """A pointer to one structure."""

    kind: type[Any]

    def take(self, passed: Any) -> Any:
        """Return the caller's memory as a structure of ours."""
        theirs = _pointed_at(passed, self.kind.__name__)
        _require_layout(type(theirs), self.kind)
        return self.kind.from_address(addressof(theirs))


@dataclass(frozen=True)
class Value:
    """A structure by value."""

    kind: type[Any]

    def take(self, passed: Any) -> Any:
        """Return the caller's memory as a structure of ours."""
        if not isinstance(passed, Structure):
            raise _wrong(passed, f"{self.kind.__name__} by value")
        _require_layout(type(passed), self.kind)
        if sizeof(passed) != sizeof(self.kind):
            raise _wrong(passed, f"{self.kind.__name__} of {sizeof(self.kind)} bytes")
        return self.kind.from_address(addressof(passed))


@dataclass(frozen=True)
class Numbers:
    """A pointer to numbers: one, or an array, or a structure that holds just an array.

    Attributes:
        of: What they are.
        least: How many there must be room for; the caller's length argument may ask for more.
    """

    of: Scalar
    least: int = 1

    def take(self, passed: Any) -> Any:
        """Return the caller's memory, as an array of as many as there are."""
        if isinstance(passed, _Pointer) and passed and self.of.fits(type(passed.contents)):
            # A cast pointer does not say how far it reaches: the caller's word is taken for it.
            return (type(passed.contents) * self.least).from_address(addressof(passed.contents))
        theirs = _pointed_at(passed, self.of.name)
        if isinstance(theirs, Structure) and len(theirs._fields_) == 1:
            theirs = getattr(theirs, theirs._fields_[0][0])
        element = theirs._type_ if isinstance(theirs, Array) else type(theirs)
        # A reference may lead into the middle of an array.
        address = ctypes.cast(passed, ctypes.c_void_p).value or 0
        count = (addressof(theirs) + sizeof(theirs) - address) // sizeof(element)
        if not self.of.fits(element) or count < self.least:
            raise _wrong(theirs, f"room for {self.least} of {self.of.name}")
        return (element * count).from_address(address)


@dataclass(frozen=True)
class TextBuffer:
    """Room for a text."""

    def take(self, passed: Any) -> Any:
        """Return the caller's memory as characters."""
        theirs = _pointed_at(passed, "characters")
        if not isinstance(theirs, Array) or sizeof(theirs._type_) != 1:
            raise _wrong(theirs, "a buffer of characters")
        return (c_char * len(theirs)).from_address(addressof(theirs))


# ---------------------------------------------------------------------- calls


class Host(Protocol):
    """Whose methods are exported."""

    def call(self, name: str, action: Callable[[], int | None]) -> int:
        """Do what a call asks for, at the right place; return the library's code."""


H = TypeVar("H", bound=Host)


class Function:
    """One function of the library as a caller has it; a declaration can be hung on it.

    Attributes:
        argtypes: As callers declare it to ctypes; nothing here depends on it.
        restype: The same.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        arguments: Sequence[Argument],
        implementation: Callable[..., int | None],
    ) -> None:
        self.argtypes: Any = None
        self.restype: Any = ctypes.c_int
        self._host, self._name = host, name
        self._arguments, self._implementation = arguments, implementation

    def __call__(self, *passed: Any) -> int:
        """Check the arguments and do what they ask for."""
        return self._host.call(self._name, lambda: self._checked(passed))

    def _checked(self, passed: tuple[Any, ...]) -> int | None:
        if len(passed) != len(self._arguments):
            raise Misuse(
                ErrorCode.INVALIDPARAMETERS,
                f"{len(self._arguments)} arguments are wanted, not {len(passed)}",
            )
        taken = []
        for number, (argument, value) in enumerate(zip(self._arguments, passed, strict=True), 1):
            try:
                taken.append(argument.take(value))
            except Misuse as misuse:
                raise Misuse(misuse.code, f"argument {number}: {misuse}") from None
        return self._implementation(*taken)


class Exported:
    """A method that callers reach as a function of the library."""

    def __init__(self, arguments: Sequence[Argument], method: Callable[..., int | None]) -> None:
        self._arguments, self._method = arguments, method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, host: None, owner: type[Any]) -> Exported: ...

    @overload
    def __get__(self, host: Host, owner: type[Any]) -> Function: ...

    def __get__(self, host: Host | None, owner: type[Any]) -> Exported | Function:
        if host is None:
            return self
        function = Function(host, self._name, self._arguments, self._method.__get__(host, owner))
        # Kept, so that what is declared to ctypes on it stays there.
        host.__dict__[self._name] = function
        return function


def exported(*arguments: Argument) -> Callable[[Callable[..., int | None]], Exported]:
    """Make a method a function of the library with these arguments.

    It returns None where the library returns that all is well.
    """
    return lambda method: Exported(arguments, method)
