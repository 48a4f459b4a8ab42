"""New files that are there whole or not at all: written beside their place, then moved into it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from cellbench.errors import InputError


class Staging:
    """A directory that takes new files, all of them when every one is finished.

    Args:
        directory: Where they go; made if it is not there.
        overwrite: Whether files of the same names may be replaced.

    Attributes:
        written: The files in their place, after the end.

    Raises:
        InputError: The directory cannot be written, or a file is there.
    """

    def __init__(self, directory: Path, *, overwrite: bool = False) -> None:
        self.directory, self._overwrite = directory, overwrite
        self.written: tuple[Path, ...] = ()

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._beside = Path(tempfile.mkdtemp(prefix=".cellbench-", dir=self.directory))
        except OSError as error:
            raise InputError(
                f"{self.directory} cannot be written: {error.strerror or error}"
            ) from error
        return self

    def path(self, name: str) -> Path:
        """Where to write a file (or a directory) of this name for now.

        Raises:
            InputError: There is one, and it is not to be replaced.
        """
        place = self.directory / name
        if place.exists() and not self._overwrite:
            raise InputError(f"{place} is there already: move it away, or add --overwrite")
        return self._beside / name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                finished = sorted(self._beside.iterdir())
                self.written = tuple(self._moved(each) for each in finished)
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)
        if isinstance(error, OSError):
            why = error.strerror or error
            raise InputError(f"{self.directory} cannot be written: {why}") from error

    def _moved(self, finished: Path) -> Path:
        place = self.directory / finished.name
        if finished.is_dir() and place.is_dir():
            shutil.rmtree(place)
        return finished.replace(place)
