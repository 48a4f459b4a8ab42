"""Looking ahead in the walk: what a cycler can be handed before any of it has been done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.lists import ends_a_list
from cellbench.protocol.program import AnyStep, ChannelStep, PassEnded

Item: TypeAlias = AnyStep | PassEnded


class LookAhead:
    """The items of a walk, the next of which can be looked at before it is taken.

    Nothing is looked at past a step whose results have a name, and not past the end of a pass that
    is tested: so that what is seen does not depend on what has not been done.

    Attributes:
        failed: Why what comes next cannot be carried out; raised when its turn comes.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._seen: list[Item] = []
        self.failed: ProtocolError | None = None

    def __iter__(self) -> Iterator[Item]:
        """Return itself."""
        return self

    def __next__(self) -> Item:
        """Take the next item."""
        if self._seen:
            return self._seen.pop()
        if self.failed is not None:
            raise self.failed
        return next(self._items)

    def seen(self) -> Item | None:
        """Look at the next item; None at the end, and before one that cannot be carried out."""
        if not self._seen:
            try:
                self._seen.append(next(self))
            except StopIteration:
                return None
            except ProtocolError as error:
                self.failed = error
                return None
        return self._seen[-1]

    def stretch(
        self, first: ChannelStep, fits: Callable[[AnyStep], ChannelStep | bool]
    ) -> list[ChannelStep | PassEnded]:
        """Take what can be handed over together with ``first``, and return it.

        Args:
            first: The step that was taken last.
            fits: The step as it can be handed over; True for one that the bench leaves out, False
                for one that has to wait.
        """
        found: list[ChannelStep | PassEnded] = [first]
        while not ends_a_list(found[-1]) and (item := self.seen()) is not None:
            if isinstance(item, PassEnded):
                if ends_a_list(item):
                    break
                found.append(item)
            elif (fitting := fits(item)) is False:
                break
            elif not isinstance(fitting, bool):
                found.append(fitting)
            next(self)
        return found
