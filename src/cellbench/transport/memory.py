"""The in-memory pipe: two streams back to back, for instruments that live in the same loop."""

from __future__ import annotations

from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream


class MemoryStream(Stream):
    """One end of a pipe; what is written here arrives at the peer at the same instant."""

    def __init__(self) -> None:
        super().__init__()
        self._peer: MemoryStream | None = None

    def _send(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer.feed(data)

    async def close(self) -> None:
        """Close both ends, as pulling a cable does."""
        peer, self._peer = self._peer, None
        await super().close()
        if peer is not None:
            peer.fail(TransportClosed("the other end closed the connection"))


def pipe() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a new pipe."""
    ours, theirs = MemoryStream(), MemoryStream()
    ours._peer, theirs._peer = theirs, ours  # noqa: SLF001 (the two halves of one thing)
    return ours, theirs
