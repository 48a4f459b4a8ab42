"""Writes docs/commands.md from what the commands say of themselves.

python docs/make_commands.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from cellbench.cli.app import app

DOCS = Path(__file__).parent
HEAD = """# Commands

What each command of cellbench takes, as `--help` says it. Wherever a run is named, the end of its
id or `last` will do. `--json` answers with one JSON object on standard output; errors and progress
are on standard error.
"""


def pages() -> dict[str, str]:
    """The page, by its place in docs/."""
    root: Any = typer.main.get_command(app)
    sections = (_section(name, command) for name, command in _commands("cellbench", root))
    return {"commands.md": HEAD + "".join(sections)}


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, in the order of the help."""
    below = getattr(command, "commands", None)
    if below is None or command.invoke_without_command:
        yield name, command
    for part, each in (below or {}).items():
        if not each.hidden:
            yield from _commands(f"{name} {part}", each)


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [
        each for each in command.params if each.param_type_name == "option" and not each.hidden
    ]
    typed = " ".join([name, *(_argument(each) for each in arguments)])
    rows = "".join(f"| {_names(each)} | {_said(each)} |\n" for each in options)
    return (
        f"\n## {name}\n\n`{typed}`\n\n{inspect.cleandoc(command.help)}\n"
        + "".join(f"\n- `{_argument(each)}`: {each.help}" for each in arguments if each.help)
        + ("\n" if arguments else "")
        + (f"\n| Option | |\n|---|---|\n{rows}" if rows else "")
    )


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))


def _said(option: Any) -> str:
    said = (option.help or "").replace("|", "\\|")
    if not isinstance(option.default, Enum):
        return said
    words = ", ".join(f"`{each.value}`" for each in type(option.default))
    return f"{said} One of {words}; else `{option.default.value}`."


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
