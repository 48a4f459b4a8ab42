"""Tables of a run as Parquet files: written, read back, and known by their content.

Needs pyarrow, of the extra "data", which is imported when a file is written or read.
"""

from __future__ import annotations

import hashlib
import marshal
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cellbench.errors import StoreError
from cellbench.store.needed import needed

Row = tuple[Any, ...]

#: Columns of each table with their types; a "word" is one of few texts, "floats" are arrays of
#: float64, which SQLite keeps as bytes.
COLUMNS: dict[str, dict[str, str]] = {
    "sample": {
        "time_s": "float64", "source": "word", "step": "int64", "voltage_V": "float64",
        "current_A": "float64", "charge_C": "float64", "force_N": "float64",
        "temperature_K": "float64", "flags": "int64", "row": "int64",
    },
    "spectrum": {
        "id": "int64", "time_s": "float64", "step": "int64", "temperature_K": "float64",
        "stack_pressure_Pa": "float64", "bias_V": "float64", "frequency_Hz": "floats",
        "impedance_real_ohm": "floats", "impedance_imag_ohm": "floats", "point_time_s": "floats",
        "flags": "floats",
    },
    "wire": {"id": "int64", "piece": "binary"},
}  # fmt: skip
#: Rows of a file that are packed together, and read together.
_GROUP_ROWS = 1 << 16
#: Row groups that are kept while a file is open.
_KEPT_GROUPS = 4


class Content:
    """Number and checksum of rows, the same however they are kept.

    Types and signs of zeros count. `marshal` of version 2 writes equal rows as equal bytes.
    """

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def of(self, pieces: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
        """Hand rows on, and take them in on the way."""
        for piece in pieces:
            self._digest.update(b"".join([marshal.dumps(row, 2) for row in piece]))
            self.count += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """The checksum, in hexadecimal digits."""
        return self._digest.hexdigest()


def content_of(pieces: Iterable[Sequence[Row]]) -> tuple[int, str]:
    """Number and checksum of rows, see `Content`."""
    content = Content()
    for _ in content.of(pieces):
        pass
    return content.count, content.sha256


def write(path: Path, kind: str, pieces: Iterable[Sequence[Row]], about: dict[str, str]) -> None:
    """Write the rows of a table.

    Args:
        path: The file, which is replaced.
        kind: The table.
        pieces: Its rows, some at a time.
        about: Kept with them, for whoever meets the file alone.

    Raises:
        StoreError: A row holds what its column cannot, or the file cannot be written.
        InputError: pyarrow is not installed.
    """
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    columns = COLUMNS[kind]
    schema = arrow.schema([(name, _type(arrow, of)) for name, of in columns.items()])
    floats = [name for name, of in columns.items() if of == "float64"]
    try:
        with parquet.ParquetWriter(
            path, schema.with_metadata(about), compression="zstd",
            use_dictionary=[name for name in columns if name not in floats],
            use_byte_stream_split=floats, write_page_checksum=True,
        ) as writer:  # fmt: skip
            for rows in _grouped(pieces):
                values = zip(columns.values(), schema.types, zip(*rows, strict=True), strict=True)
                arrays = [arrow.array(_given(of, each), type_) for of, type_, each in values]
                writer.write_table(arrow.table(arrays, schema), row_group_size=_GROUP_ROWS)
    except (arrow.ArrowException, ValueError, TypeError) as error:
        raise StoreError(f"{path.name} cannot be made: {error}") from error


def _type(arrow: Any, of: str) -> Any:
    match of:
        case "floats":
            return arrow.list_(arrow.float64())
        case "word":
            return arrow.dictionary(arrow.int32(), arrow.string())
    return getattr(arrow, of)()


def _given(of: str, column: Sequence[Any]) -> Sequence[Any]:
    return [np.frombuffer(each) for each in column] if of == "floats" else column


def _grouped(pieces: Iterable[Sequence[Row]]) -> Iterator[list[Row]]:
    rows: list[Row] = []
    for piece in pieces:
        rows.extend(piece)
        while len(rows) >= _GROUP_ROWS:
            yield rows[:_GROUP_ROWS]
            del rows[:_GROUP_ROWS]
    if rows:
        yield rows


class ParquetFile:
    """A table that was written by `write`, opened to be read.

    Raises:
        StoreError: The file is missing or damaged.
        InputError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = needed("pyarrow")
        parquet = needed("pyarrow.parquet")
        if not path.is_file():
            raise StoreError(
                f"{path} is missing: the run was compacted, and its data were there "
                "(cellbench store check)"
            )
        try:
            self._file = parquet.ParquetFile(path, page_checksum_verification=True)
        except (OSError, self._arrow.ArrowException) as error:
            raise StoreError(f"{path} is damaged: {error} (cellbench store check)") from error
        self._groups: OrderedDict[tuple[int, Sequence[str]], dict[str, NDArray[Any]]] = (
            OrderedDict()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._file.close(force=True)

    @property
    def count(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    @property
    def groups(self) -> range:
        """The numbers of its row groups."""
        return range(self._file.num_row_groups)

    def group(self, index: int, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of a row group: text as text, all else as float64, NaN where there is nothing."""
        found = self._groups.pop((index, columns), None)
        if found is None:
            table = self._read(index, columns)
            found = {name: _array(self._arrow, table[name]) for name in columns}
        self._groups[index, columns] = found
        while len(self._groups) > _KEPT_GROUPS:
            self._groups.popitem(last=False)
        return found

    def between(
        self, first: int, end: int, columns: Sequence[str]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the rows from the place ``first`` (from 0) up to ``end``, not included."""
        start = 0
        for index in self.groups:
            rows = int(self._file.metadata.row_group(index).num_rows)
            low, high = max(first - start, 0), min(end - start, rows)
            if low < high:
                yield {name: each[low:high] for name, each in self.group(index, columns).items()}
            start += rows

    def rows(self) -> Iterator[list[Row]]:
        """All rows as SQLite kept them, a row group at a time."""
        names = self._file.schema_arrow.names
        for index in self.groups:
            table = self._read(index, names)
            yield list(zip(*(_kept(self._arrow, table[name]) for name in names), strict=True))

    def _read(self, index: int, columns: Sequence[str]) -> Any:
        try:
            return self._file.read_row_group(index, columns=list(columns))
        except (OSError, self._arrow.ArrowException) as error:
            raise StoreError(f"{self.path} is damaged: {error} (cellbench store check)") from error


def _array(arrow: Any, column: Any) -> NDArray[Any]:
    if not arrow.types.is_dictionary(column.type):
        found: NDArray[Any] = column.cast(arrow.float64(), safe=False).to_numpy()
        return found
    words = [np.array(chunk.dictionary.to_pylist(), dtype=str) for chunk in column.chunks]
    indices = [chunk.indices.to_numpy() for chunk in column.chunks]
    return np.concatenate([all_[which] for all_, which in zip(words, indices, strict=True)])


def _kept(arrow: Any, column: Any) -> list[Any]:
    if arrow.types.is_list(column.type):
        return [each.values.to_numpy().tobytes() for each in column]
    found: list[Any] = column.to_pylist()
    return found
