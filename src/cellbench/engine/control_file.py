"""The file beside a run that says where its commands are taken: port, token, and whose process.

It is there while the run's process takes commands. One that a killed process left behind is known
by the process: none of that id is there any more, or another one that was started later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cellbench.errors import InputError
from cellbench.system import process_start, write_privately

SUFFIX = ".control.json"


class ControlFile(BaseModel):
    """Where a run takes its commands.

    Attributes:
        run: The run's id.
        port: TCP port on this computer's own address.
        token: What a request has to bear.
        pid: The process that takes them.
        started: When it was started, see `cellbench.system.process_start`.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    port: int
    token: str
    pid: int
    started: float | None

    @classmethod
    def of_this_process(cls, run: str, port: int, token: str) -> ControlFile:
        """What this process writes for a run of its own."""
        pid = os.getpid()
        return cls(run=run, port=port, token=token, pid=pid, started=process_start(pid))

    @property
    def is_alive(self) -> bool:
        """Whether the process that wrote it is still there."""
        return self.started is not None and process_start(self.pid) == self.started

    def write(self, path: Path) -> None:
        """Write it whole, for this user alone: the token is all that a command needs."""
        write_privately(path, self.model_dump_json())

    def remove(self, path: Path) -> None:
        """Remove it, if it is still this one: a run that was resumed has another."""
        if read(path) == self:
            path.unlink(missing_ok=True)


def place(run_path: Path) -> Path:
    """Where it is, beside the run's own file."""
    return run_path.with_suffix(SUFFIX)


def read(path: Path) -> ControlFile | None:
    """Read one; None where there is none.

    Raises:
        InputError: It is another user's, or none.
    """
    try:
        return ControlFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise InputError(
            f"{path.name.removesuffix(SUFFIX)} is another user's run: only they can command it"
        ) from error
    except ValidationError as error:
        raise InputError(f"{path} does not say where the run takes commands") from error


def active(directory: Path) -> Iterator[ControlFile]:
    """The runs of this user in a directory whose process is there, oldest first."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            found = read(path)
        except InputError:
            continue  # none that this user could command
        if found is not None and found.is_alive:
            yield found
