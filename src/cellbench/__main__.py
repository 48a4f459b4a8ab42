"""``python -m cellbench`` is the ``cellbench`` command."""

from cellbench.cli import main

main()
