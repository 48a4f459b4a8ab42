"""Carrying checks out, one by one or all that concern a driver."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cellbench.clock import run
from cellbench.testing.checks import Check, NonConformance, NotApplicable, checks_for
from cellbench.testing.subject import Subject

#: No check takes longer than this of the loop's time: what does waits for ever.
LIMIT_S = 6 * 3600.0


@dataclass(frozen=True)
class Result:
    """What became of one check: ``problem`` is None where it was passed.

    Attributes:
        passed_over: Why it was not carried out, empty where it was.
    """

    check: Check
    problem: Exception | None
    passed_over: str = ""

    def __str__(self) -> str:
        if self.passed_over:
            return f"-     {self.check.demand}: {self.passed_over}"
        return (
            f"FAIL  {self.check.demand}: {self.problem!r}"
            if self.problem
            else (f"ok    {self.check.demand}")
        )


def carry_out(check: Check, subject: Subject) -> None:
    """Carry out one check.

    Raises:
        NonConformance: The driver does not do what is demanded.
        NotApplicable: The check does not concern it.
        Exception: Whatever the driver raised that it should not have.
    """

    async def within_limit() -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                await check.carry_out(subject)
        except TimeoutError as error:
            raise NonConformance(f"not over after {LIMIT_S:g} s") from error

    run(within_limit(), virtual=subject.virtual)


def results(subject: Subject) -> list[Result]:
    """Carry out every check of the driver's role; a failure does not keep the others from it."""
    return [_result(check, subject) for check in checks_for(subject.role)]


def failures(subject: Subject) -> list[Result]:
    """Carry out every check, and return those that failed: none for a driver that conforms."""
    return [result for result in results(subject) if result.problem is not None]


def _result(check: Check, subject: Subject) -> Result:
    try:
        carry_out(check, subject)
    except NotApplicable as reason:
        return Result(check, None, str(reason))
    except Exception as problem:  # noqa: BLE001 (a result of a check, whatever it is)
        return Result(check, problem)
    return Result(check, None)
