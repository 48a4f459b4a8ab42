"""The local truth: a catalogue of runs and one SQLite file per run."""

from cellbench.store.catalogue import Store
from cellbench.store.places import data_directory
from cellbench.store.reader import RunReader, StoredSpectrum, never_began
from cellbench.store.runfile import RunWriter
from cellbench.store.tables import IMPORTED, JournalEntry, Run, SampleRow

__all__ = [
    "IMPORTED",
    "JournalEntry",
    "Run",
    "RunReader",
    "RunWriter",
    "SampleRow",
    "Store",
    "StoredSpectrum",
    "data_directory",
    "never_began",
]
