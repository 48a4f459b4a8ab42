"""What each kind of file in an example is held against: the loader that would read it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.docs.blocks import Block

from cellbench.analysis import available
from cellbench.bench import declared
from cellbench.campaign.loading import load_campaign
from cellbench.engine.named_bench import read_bench
from cellbench.engine.service import read_policy
from cellbench.engine.session import prepare
from cellbench.protocol import check, load_card
from cellbench.protocol.source import load, read_document
from cellbench.protocol.validation import validate
from cellbench.store.retain import read_rules
from cellbench.telemetry.configuration import TelemetryFile, read_operators


def accepts(block: Block, directory: Path) -> None:
    """Read an example as cellbench would read the file; it is left in the directory.

    Raises:
        InputError: cellbench would refuse it.
        AssertionError: It is of no known kind.
    """
    path = directory / (block.title or f"example.{block.language}")
    content = _parsed(block)
    path.write_text(_whole(block, content), encoding="utf-8")
    if block.language == "toml" and "service" in content:
        read_policy(path)
    elif block.language == "yaml":
        _loader(block, content)(path)


def _parsed(block: Block) -> Any:
    if block.language == "toml":
        return tomllib.loads(block.text)
    if block.language == "json":
        return json.loads(block.text)
    return YAML(typ="safe").load(block.text)


def _whole(block: Block, content: Any) -> str:
    """With what stands around an example that shows a part of a file."""
    if isinstance(content, list):
        return f"name: example\ncell: {block.said or 'LYC'}\nsteps:\n{block.text}"
    if "instruments" in content and "bench" not in content:
        return f"bench: example\n{block.text}"
    if "operators" in content:
        return block.text.replace("...", "0" * 64)  # nobody shall copy a secret
    return block.text


def _loader(block: Block, content: Any) -> Callable[[Path], object]:
    if isinstance(content, list) or "steps" in content:
        return _read_protocol
    loaders: dict[str, Callable[[Path], object]] = {
        "layout": lambda path: load_card(None, path),
        "instruments": _read_bench,
        "mqtt": lambda path: validate(TelemetryFile, load(read_document(path))),
        "operators": _read_operators,
        "cellbench campaign": _read_campaign,
        "retain": read_rules,
    }
    found = [loader for key, loader in loaders.items() if key in content]
    assert len(found) == 1, f"{block}: of which kind is this file?"
    return found[0]


def _read_protocol(path: Path) -> None:
    session = prepare(str(path))
    check(session.program, session.declared(), available()).raise_problems()


def _read_bench(path: Path) -> None:
    file = read_bench(path).file
    for place in file.cells or [""]:
        declared(file.of_place(place), simulated=file.is_simulated, beside=path.parent)


def _read_campaign(path: Path) -> None:
    if path.stem != "wrong":  # it shows what is told of one
        load_campaign(path)


def _read_operators(path: Path) -> None:
    path.chmod(0o600)
    read_operators(path)
