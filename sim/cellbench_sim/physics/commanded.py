"""A model that takes commands: the world settles up to now before anything changes."""

from collections.abc import Callable

from cellbench_sim.physics.state import Stateful


class Commanded(Stateful):
    """Base of the parts that an emulator commands directly."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
