"""Who hears that a run's host lives, and what becomes of the step under way should it not.

The engine's own loop tells it; a hung loop is thus silent. Nobody listens unless a guard does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class Heart:
    """What the engine tells of itself; a guard's keeper passes it on."""

    def begun(self) -> None:
        """Take note that the run has begun; nothing is energised yet."""

    def passed(self, within_s: float) -> None:
        """Take note that the watch has looked at an instrument, and checked what it read.

        Args:
            within_s: When it is to look again.
        """

    def watch_ended(self) -> None:
        """Take note that the watch has ended on purpose."""

    def declare(self, continues: Mapping[str, float]) -> None:
        """Take note of what goes on without the host.

        Args:
            continues: Channels that are left alone on host loss, each with the time in s after
                which it has ended by itself at the latest; none of them for "quiet".
        """

    def left(self, unknown: Sequence[str]) -> None:
        """Take note that the run has left its bench, as far as it could.

        Args:
            unknown: Instruments whose safe state could not be read back.
        """

    @contextmanager
    def continuing(self, channel: str, at_most_s: float) -> Iterator[None]:
        """While the context lasts, a channel goes on without its host, within its own bounds."""
        self.declare({channel: at_most_s})
        try:
            yield
        finally:
            self.declare({})
