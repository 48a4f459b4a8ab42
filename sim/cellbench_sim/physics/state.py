"""State of a model that can be taken out and put back, whole, without touching its parameters."""

import random


class Stateful:
    """A model whose state is its numbers, lists of numbers, generators and stateful parts.

    Everything else it holds (parameters, arrays, callables) is constant and stays where it is, and
    parts keep their identity: whoever holds a reference to one sees the restored state.
    """

    def snapshot(self) -> dict[str, object]:
        """Return a copy of the state, by attribute name."""
        return {name: _taken(value) for name, value in vars(self).items() if _is_state(value)}

    def restore(self, state: dict[str, object]) -> None:
        """Put back what `snapshot` returned; the state given is left as it was."""
        for name, saved in state.items():
            _put_back(self, name, saved)


def _is_state(value: object) -> bool:
    return value is None or isinstance(
        value, bool | int | float | complex | str | list | random.Random | Stateful
    )


def _taken(value: object) -> object:
    if isinstance(value, Stateful):
        return value.snapshot()
    if isinstance(value, random.Random):
        return value.getstate()
    return list(value) if isinstance(value, list) else value


def _put_back(model: Stateful, name: str, saved: object) -> None:
    present = getattr(model, name)
    if isinstance(present, Stateful) and isinstance(saved, dict):
        present.restore(saved)
    elif isinstance(present, random.Random) and isinstance(saved, tuple):
        present.setstate(saved)
    else:
        setattr(model, name, list(saved) if isinstance(saved, list) else saved)
