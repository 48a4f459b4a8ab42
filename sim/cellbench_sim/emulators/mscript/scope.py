"""Names while a script is compiled: declared variables, literals, and where a statement stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cellbench_sim.emulators.mscript.machine import Machine
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.values import (
    VAR_TYPES,
    Number,
    ScriptError,
    literal,
)
from cellbench_sim.emulators.refusal import Refusal

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLES_MAX = 256


@dataclass(frozen=True)
class Scope:
    """What a statement may refer to.

    Attributes:
        measurement: The measurement loop that the statement stands in, if any.
        in_loop: Whether there is a loop to break out of.
    """

    machine: Machine
    variables: dict[str, int] = field(default_factory=dict)
    measurement: str | None = None
    in_loop: bool = False

    def inside(self, measurement: str) -> Scope:
        """Return the scope of a measurement loop's body."""
        return replace(self, measurement=measurement, in_loop=True)

    def inside_loop(self) -> Scope:
        """Return the scope of a loop's body."""
        return replace(self, in_loop=True)

    def refuse_in_measurement(self, statement: Statement) -> None:
        """Raise if a measurement loop is active."""
        if self.measurement is not None:
            raise statement.error(0x401A)

    def arguments(self, statement: Statement, least: int, most: int | None = None) -> list[str]:
        """Return the plain arguments; there must be ``least`` to ``most`` of them."""
        count = len(statement.arguments)
        if count < least:
            raise statement.error(0x4004)
        if count > (most or least):
            raise statement.error(0x420A)
        return statement.arguments

    def declare(self, statement: Statement, name: str) -> None:
        """Introduce a variable."""
        if _NAME.fullmatch(name) is None:
            raise statement.error(0x402B)
        if name in self.variables:
            raise statement.error(0x4026)
        if len(self.variables) == _VARIABLES_MAX:
            raise statement.error(0x000B)
        self.variables[name] = self.machine.new_slot(0.0)

    def variable(self, statement: Statement, token: str) -> int:
        """Return the slot of a declared variable."""
        if token in self.variables:
            return self.variables[token]
        if literal(token) is not None:
            raise statement.error(0x420D)
        raise statement.error(0x420B if _NAME.fullmatch(token) else 0x4039)

    def operand(self, statement: Statement, token: str) -> int:
        """Return the slot of a variable or literal."""
        value = literal(token)
        if value is None:
            return self.variable(statement, token)
        return self.machine.new_slot(value, "ja")

    def quantity(self, statement: Statement, token: str) -> Callable[[], float]:
        """Return a function that reads a real-valued argument when the statement runs."""
        slot, values, line = self.operand(statement, token), self.machine.values, statement.line

        def read() -> float:
            value = values[slot]
            if type(value) is int:
                raise ScriptError(0x4207, line)
            return value

        return read

    def count(self, statement: Statement, token: str) -> Callable[[], int]:
        """Return a function that reads an integer argument when the statement runs."""
        slot, values, line = self.operand(statement, token), self.machine.values, statement.line

        def read() -> int:
            value = values[slot]
            if type(value) is not int:
                raise ScriptError(0x4207, line)
            return value

        return read

    def var_type(self, statement: Statement, token: str) -> str:
        """Return a variable type that exists."""
        if token not in VAR_TYPES:
            raise statement.error(0x4209)
        return token

    def store(self, slot: int, value: Number, var_type: str, metadata: str = "") -> None:
        """Put a value into a variable."""
        machine = self.machine
        machine.values[slot] = value
        machine.types[slot] = var_type
        machine.metadata[slot] = metadata


def at_line(line: int, action: Callable[[], object]) -> Callable[[], int]:
    """Return ``action`` as a statement whose faults carry its line."""

    def run() -> int:
        try:
            action()
        except Refusal as fault:
            raise ScriptError(fault.code, line) from fault
        return 0

    return run
