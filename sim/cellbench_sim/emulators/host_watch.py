"""The watchdog of an emulated instrument, which must hear from its host while it commands it."""

from __future__ import annotations

from collections.abc import Callable

from cellbench_sim.emulators.device import CallAt


class HostWatch:
    """Notices that a host has been silent for too long; one timer at a time.

    Args:
        now: The bench's time.
        call_at: Sets a timer on it.
        is_on: Whether the host is missed at all, asked at every look.
        timeout_s: How long it may be silent, asked at every look.
        missed: What happens when it has been.
    """

    def __init__(
        self,
        now: Callable[[], float],
        call_at: CallAt,
        *,
        is_on: Callable[[], bool],
        timeout_s: Callable[[], float],
        missed: Callable[[], object],
    ) -> None:
        self._now, self._call_at = now, call_at
        self._is_on, self._timeout_s, self._missed = is_on, timeout_s, missed
        self._heard_s = 0.0
        self._watching = False

    def hear(self) -> None:
        """Take note that the host lives."""
        self._heard_s = self._now()
        if not self._watching:
            self._look()

    def begin(self) -> None:
        """Wait for the host from now on; one that is waited for already gets no more time."""
        if not self._watching:
            self.hear()

    def _look(self) -> None:
        """Look again when the host's time would be over, as long as the watch is on."""
        self._watching = self._is_on()
        if not self._watching:
            return
        due_s = self._heard_s + self._timeout_s()
        if due_s > self._now():
            self._call_at(due_s, self._look)
            return
        self._watching = False
        self._missed()
