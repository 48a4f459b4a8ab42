"""The command line. Each command imports what it needs when it runs: help appears at once."""

from __future__ import annotations

from cellbench import system


def main() -> None:
    """Entry point of the ``cellbench`` command."""
    system.speak_utf8()
    from cellbench.cli.app import app

    app()
