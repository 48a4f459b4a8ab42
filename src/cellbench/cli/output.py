"""What every command shares: answers as JSON, errors in one screen, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer

from cellbench.errors import CellbenchError, InputError, InstrumentError


class ExitCode(IntEnum):
    """Documented in the README."""

    FORESEEN_END = 0
    STOPPED = 1
    WRONG_INPUT = 2
    INSTRUMENT_TROUBLE = 3
    INTERRUPTED = 130


def print_json(answer: Any) -> None:
    """Write one object to standard output, and nothing else."""
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_error(message: str) -> None:
    """Write an error to standard error as it stands: its layout is part of it."""
    sys.stderr.write(message.rstrip() + "\n")


def exit_code(error: CellbenchError) -> ExitCode:
    """The exit code for an error that ended a command."""
    if isinstance(error, InputError):
        return ExitCode.WRONG_INPUT
    if isinstance(error, InstrumentError):
        return ExitCode.INSTRUMENT_TROUBLE
    return ExitCode.STOPPED


@contextmanager
def told() -> Iterator[None]:
    """Turn foreseen errors into a message and an exit code."""
    try:
        yield
    except CellbenchError as error:
        print_error(str(error))
        raise typer.Exit(exit_code(error)) from error
    except OSError as error:
        print_error(f"{error.filename or 'system'}: {error.strerror or error}")
        raise typer.Exit(ExitCode.WRONG_INPUT) from error
