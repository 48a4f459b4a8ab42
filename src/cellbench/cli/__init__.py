"""The command line. Each command imports what it needs when it runs: help appears at once."""

from __future__ import annotations

import gc

from cellbench import system

#: Objects that are made before the collector looks for cycles among them. What is loaded at first,
#: and rows that wait for their disk by the thousand, it would look through again and again.
_OBJECTS_BETWEEN_LOOKS = 50_000


def main() -> None:
    """Entry point of the ``cellbench`` command."""
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
    system.speak_utf8()
    from cellbench.cli.app import app

    app()
