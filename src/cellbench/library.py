"""Where the shipped protocols and cell cards are, and finding them by name.

They are package data (``cellbench/library``) in an installed wheel, and the ``protocols``
directory of the repository when cellbench runs from a checkout.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from cellbench.errors import InputError

_SUFFIX = ".yaml"


@lru_cache(maxsize=1)
def directory() -> Path:
    """Return the directory of the library.

    Raises:
        InputError: The installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "library", package.parents[1] / "protocols"):
        if candidate.is_dir():
            return candidate
    raise InputError("the protocol library is missing: cellbench is not installed completely")


def protocol_names() -> list[str]:
    """Names of the shipped protocols, in order."""
    return _names(directory())


def card_names() -> list[str]:
    """Names of the shipped cell cards, in order."""
    return _names(directory() / "cells")


def find_protocol(name: str) -> Path:
    """Return a protocol's file: a path that exists (its ".yaml" may be left out), or a shipped one.

    Raises:
        InputError: There is neither.
    """
    return _find(name, directory(), protocol_names(), "protocol")


def find_card(name: str) -> Path:
    """Return a card's file: a path that exists (its ".yaml" may be left out), or a shipped one.

    Raises:
        InputError: There is neither.
    """
    return _find(name, directory() / "cells", card_names(), "cell card")


def shipped_protocol(name: str) -> Path:
    """Return the file of a shipped protocol, by its name alone.

    Raises:
        InputError: None is called so.
    """
    return _shipped(name, directory(), protocol_names(), "protocol")


def shipped_card(name: str) -> Path:
    """Return the file of a shipped cell card, by its name alone.

    Raises:
        InputError: None is called so.
    """
    return _shipped(name, directory() / "cells", card_names(), "cell card")


def _names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))


def _find(name: str, folder: Path, names: list[str], what: str) -> Path:
    if name in names:
        return folder / f"{name}{_SUFFIX}"
    if found := with_suffix(Path(name)):
        return found
    path = Path(name)
    kind = _other_kind(path)
    if kind:
        raise InputError(f'"{name[:200]}" {kind}; a {what} is a file')
    looks_like_path = path.suffix in {".yaml", ".yml"} or len(path.parts) > 1
    if looks_like_path and path.name.removesuffix(path.suffix) not in names:
        raise InputError(f'there is no file "{name[:200]}"')
    return _shipped(name, folder, names, what)


def _shipped(name: str, folder: Path, names: list[str], what: str) -> Path:
    if name in names:
        return folder / f"{name}{_SUFFIX}"
    bare = Path(name).name.removesuffix(_SUFFIX)
    close = difflib.get_close_matches(bare, names, 1, 0.5)
    proposal = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(names)}"
    raise InputError(f'there is no {what} "{name[:100]}"; {proposal}')


def with_suffix(path: Path) -> Path | None:
    """Return the file that a path means, as it stands or with ".yaml"; None where there is none."""
    candidates = (path, path.with_name(f"{path.name}{_SUFFIX}")) if path.name else (path,)
    return next((each for each in candidates if _is_file(each)), None)


def _other_kind(path: Path) -> str:
    """Return what a path is that is there and no file; empty where nothing is there."""
    try:
        if path.is_dir():
            return "is a directory"
        return "is not a regular file" if path.exists() else ""
    except (OSError, ValueError):  # a name that the file system cannot even look up
        return ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that the file system cannot even look up
        return False
