"""What every command shares: answers as JSON, errors in one screen, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
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


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for people, as wide as the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    width = None if sys.stdout.isatty() else 200  # a pipe does not wrap lines
    Console(width=width).print(table)


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
def told(*, as_json: bool = False) -> Iterator[None]:
    """Turn foreseen errors into a message, or with ``as_json`` an object, and an exit code."""
    try:
        yield
    except CellbenchError as error:
        _tell(str(error), as_json=as_json)
        raise typer.Exit(exit_code(error)) from error
    except BrokenPipeError as error:
        # Whoever read us (head, less) has seen enough; Python would complain once more at exit.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        raise typer.Exit(ExitCode.FORESEEN_END) from error
    except OSError as error:
        _tell(f"{error.filename or 'system'}: {error.strerror or error}", as_json=as_json)
        raise typer.Exit(ExitCode.WRONG_INPUT) from error


def _tell(message: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": message})
    print_error(message)


def writable_output(path: Path, *suffixes: str) -> None:
    """Refuse a file to be written that cannot be, or that is surely not meant.

    Args:
        path: The file.
        suffixes: Endings that it may have: an HTML report never replaces a protocol.

    Raises:
        InputError: It has another ending, or its directory does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f'"{path}" must end in {" or ".join(suffixes)}')
    if path.is_dir():
        raise InputError(f'"{path}" is a directory')
    if not path.absolute().parent.is_dir():
        raise InputError(f'there is no directory "{path.absolute().parent}"')
