"""What a check is: a coroutine over a subject, with the roles that it is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellbench.testing.subject import Subject

ROLES = ("channel", "press", "gauge", "chamber", "switch")
#: Where checks are; each module registers its own.
_MODULES = (
    "common",
    "breakage",
    "channel",
    "spectrum",
    "cycler",
    "press",
    "gauge",
    "chamber",
    "switch",
)


class NonConformance(AssertionError):
    """A driver does not do what its role demands."""


class NotApplicable(Exception):
    """A check does not concern this driver, or needs truth that nobody knows; says why."""


@dataclass(frozen=True)
class Check:
    """One demand on drivers.

    Attributes:
        demand: What is demanded, in one sentence.
        roles: Roles of the drivers that it is for.
    """

    demand: str
    roles: tuple[str, ...]
    carry_out: Callable[[Subject], Awaitable[None]]

    def __str__(self) -> str:
        return self.carry_out.__name__


_checks: list[Check] = []

Coroutine = Callable[["Subject"], Awaitable[None]]


def check(*roles: str) -> Callable[[Coroutine], Coroutine]:
    """Register a coroutine as a check for drivers of these roles, of all if none is said."""

    def register(coroutine: Coroutine) -> Coroutine:
        demand = (coroutine.__doc__ or "").strip().splitlines()[0].rstrip(".")
        _checks.append(Check(demand, roles or ROLES, coroutine))
        return coroutine

    return register


def checks_for(role: str) -> list[Check]:
    """Return the checks that drivers of a role have to pass."""
    for module in _MODULES:
        import_module(f"cellbench.testing.{module}")
    return [each for each in _checks if role in each.roles]


def demand(fulfilled: object, text: str) -> None:
    """Raise `NonConformance` with a text unless something is true."""
    if not fulfilled:
        raise NonConformance(text)
