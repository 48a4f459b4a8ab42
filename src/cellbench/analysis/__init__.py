"""What the data of a run mean: analyses by name, each a pure function from a dataset to JSON.

An analysis is a module with `analyse(dataset, **options) -> dict` and, for people,
`describe(result) -> list[str]`. It is found through the entry points "cellbench.analyses", so that
a laboratory can add its own. The datasets are plain tables: any data can be put into one
(`cellbench.analysis.table.dataset_of`).
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from cellbench.analysis.dataset import (
    Dataset,
    Geometry,
    Result,
    Samples,
    Series,
    Spectrum,
    StepData,
)
from cellbench.errors import InputError
from cellbench.places import WITHIN

__all__ = [
    "Dataset",
    "Geometry",
    "Result",
    "Samples",
    "Series",
    "Spectrum",
    "StepData",
    "analyse",
    "available",
    "bare",
    "definition",
    "describe",
    "part_of",
]

GROUP = "cellbench.analyses"


def available() -> list[str]:
    """Names of the analyses that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def analyse(name: str, dataset: Dataset, **options: Any) -> Result:
    """Run an analysis by the name that a protocol gives it ("ccd", "arrhenius within ladder").

    Raises:
        InputError: if no analysis of this name is installed.
        ValueError: if the data do not hold what it needs.
    """
    return _load(name)(part_of(name, dataset), **options)


def part_of(name: str, dataset: Dataset) -> Dataset:
    """What an analysis looks at: all of a run, or what ran within the place that its name tells.

    Raises:
        ValueError: if nothing ran there.
    """
    place = name.partition(WITHIN)[2].strip()
    return dataset.within(place) if place else dataset


def bare(name: str) -> str:
    """The name of an analysis without the place where it looks, as it is installed."""
    return name.partition(WITHIN)[0].strip().replace(" ", "_")


def describe(name: str, result: Mapping[str, Any]) -> list[str]:
    """The lines in which an analysis tells people its result; none if it has no words of its own.

    Raises:
        InputError: if no analysis of this name is installed.
    """
    module = sys.modules[_load(name).__module__]
    lines: Callable[[Mapping[str, Any]], list[str]] | None = getattr(module, "describe", None)
    return lines(result) if lines else []


def definition(name: str) -> str:
    """How an analysis defines what it gives, by which source, and its options.

    Raises:
        InputError: if no analysis of this name is installed.
    """
    function = _load(name)
    texts = (sys.modules[function.__module__].__doc__, function.__doc__)
    return "\n\n".join(inspect.cleandoc(text) for text in texts if text)


def _load(name: str) -> Callable[..., Result]:
    found = list(entry_points(group=GROUP, name=bare(name)))
    if not found:
        raise InputError(f'there is no analysis "{name}"; there are: {", ".join(available())}')
    loaded: Callable[..., Result] = found[0].load()
    return loaded
