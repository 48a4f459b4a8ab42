"""The command line. Each command imports what it needs when it runs: help appears at once."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``cellbench`` command."""
    if sys.platform == "win32":
        # Consoles of Windows often start in a code page without Ω, ° and block characters.
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(encoding="utf-8", errors="replace")
    from cellbench.cli.app import app

    app()
