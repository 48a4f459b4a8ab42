"""Bench files that are made from answers: composed, checked as a run would, and written once."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from cellbench.bench import LIBRARY, NO_PORT, BenchFile, InstrumentEntry, declared, parse_bench
from cellbench.errors import InputError
from cellbench.instruments.registry import load_driver
from cellbench.protocol.source import document_of, load
from cellbench.transport import pipe
from cellbench.transport.address import check_address

#: Nothing is wrapped: one line for each instrument.
_WIDTH = 1000
_WHOLE = re.compile(r"[1-9]\d*|0")


def read_block(text: str, origin: str) -> dict[str, Any]:
    """Read a block as a bench file writes it: ``{driver: palmsens, port: COM3}``, or without {}.

    Raises:
        InputError: It is no block.
    """
    written = text.strip()
    node = load(document_of(written if written.startswith("{") else f"{{{written}}}", origin))
    block = node.plain()
    if not isinstance(block, dict):
        raise InputError(f'{origin}: "{text}" is no list of "key: value"')
    return block


def read_named_block(text: str, origin: str) -> tuple[str, dict[str, Any]]:
    """Read a name and its block: ``press: {driver: plc_press, port: 192.0.2.20}``.

    Raises:
        InputError: It is something else.
    """
    name, colon, block = text.partition(":")
    if not colon or not name.strip() or not block.strip().startswith("{"):
        raise InputError(f'{origin}: write "name: {{driver: ..., port: ...}}", not "{text}"')
    return name.strip(), read_block(block, origin)


def check_instrument(name: str, block: Mapping[str, Any], beside: Path) -> None:
    """Check one instrument's entry, options of its driver and address included.

    Raises:
        InputError: It is wrong; says what would be right.
    """
    driver = load_driver(str(block["driver"]), beside)
    text = compose("one", {name: block})
    entry: InstrumentEntry = parse_bench(load(document_of(text, name))).instruments[name]
    if entry.port not in {NO_PORT, LIBRARY} and not entry.is_simulated:
        check_address(entry.port, entry.serial_settings(driver.serial), driver.tcp_port)
    nowhere, _ = pipe()
    driver(name, nowhere, entry.options)


def compose(
    bench: str,
    instruments: Mapping[str, Mapping[str, Any]],
    fixture: Mapping[str, Any] | None = None,
    wiring: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the text of a bench file: one line for each instrument, and for each cell's wiring."""
    whole = CommentedMap(bench=bench)
    whole["instruments"] = _line_by_line(instruments)
    if fixture:
        whole["fixture"] = _in_one_line(fixture)
    if wiring:
        whole["wiring"] = _line_by_line(wiring)
    yaml, out = YAML(), io.StringIO()
    yaml.width = _WIDTH
    yaml.dump(whole, out)
    return out.getvalue()


def _line_by_line(blocks: Mapping[str, Mapping[str, Any]]) -> CommentedMap:
    return CommentedMap({name: _in_one_line(block) for name, block in blocks.items()})


def _in_one_line(block: Mapping[str, Any]) -> CommentedMap:
    line = CommentedMap(
        {
            key: _in_one_line(value) if isinstance(value, Mapping) else _plain(value)
            for key, value in block.items()
        }
    )
    line.fa.set_flow_style()
    return line


def _plain(value: Any) -> Any:
    """All scalars of our files are text; a whole number needs no quotes to stay one."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def checked(text: str, path: Path) -> BenchFile:
    """Return the bench that a text describes.

    Raises:
        InputError: It cannot be carried out.
    """
    file = parse_bench(load(document_of(text, path.name)))
    if not file.instruments:
        raise InputError("a bench needs an instrument")
    for name, entry in file.instruments.items():
        check_instrument(name, entry.model_dump(exclude_none=True), path.parent)
    declared(file, simulated=file.is_simulated, beside=path.parent)
    return file


def roles_of(instruments: Mapping[str, Mapping[str, Any]], beside: Path) -> dict[str, str]:
    """The role of each instrument, by its driver."""
    return {
        name: load_driver(str(block["driver"]), beside).role for name, block in instruments.items()
    }


def may_be_written(path: Path) -> None:
    """Refuse a place where a bench file cannot be written.

    Raises:
        InputError: There is something already, or no directory, or it is no name of a bench file.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise InputError(f'"{path}" must end in .yaml')
    if path.exists():
        raise InputError(f"{path} is there already: it is not overwritten")
    if not path.absolute().parent.is_dir():
        raise InputError(f'there is no directory "{path.absolute().parent}"')


def write(text: str, path: Path) -> None:
    """Write a bench file; never over another.

    Raises:
        InputError: See `may_be_written`.
    """
    may_be_written(path)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
