"""``cellbench store`` as people type it, in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from cellbench.cli.app import app


def called(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", *words])
    return done.exit_code, done.output
