"""Rows to columns, in the form in which an engine takes them. Pure.

Without SQLAlchemy and DuckDB, so that a process which only reads and packs starts in a tenth of a second.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import nanoarrow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - database times are UTC without a zone
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(StrEnum):
    """How a column's values travel to the engine; `OTHER` and `JSON` as text that is cast on arrival, such as an exact decimal."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"
    OTHER = "other"


class Layout(NamedTuple):
    """What rows of a table hold.

    Attributes:
        names: The columns, in the order of a row's values.
        kinds: How the values of each travel.
        key: The positions of the primary key.
        as_arrow: Whether the engine takes Arrow's form: DuckDB does.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    key: tuple[int, ...]
    as_arrow: bool


@dataclass(frozen=True, slots=True)
class PackedColumn:
    """A column in Arrow's form.

    Attributes:
        kind: How the values travel.
        null_count: How many values are None.
        buffers: Arrow's buffers: which values are present, offsets of texts, the values.
    """

    kind: Kind
    null_count: int
    buffers: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows of a table as columns; they can be sent to another process.

    Attributes:
        names: The columns.
        count: How many rows they are; of several with the same key, the last one.
        values: The columns' values; empty where the engine takes Arrow's form.
        columns: The same in Arrow's form.
    """

    names: tuple[str, ...]
    count: int
    values: Sequence[Sequence[Any]] = ()
    columns: Sequence[PackedColumn] = ()

    def as_batch(self) -> nanoarrow.Array:
        """Return them as a batch that DuckDB reads in place."""
        children = [_as_array(column, self.count) for column in self.columns]
        fields = {name: child.schema for name, child in zip(self.names, children, strict=True)}
        batch = nanoarrow.c_array_from_buffers(nanoarrow.struct(fields), length=self.count, buffers=[None], children=children, null_count=0)
        return nanoarrow.Array(batch)


def pack(layout: Layout, rows: Sequence[Sequence[Any]]) -> PackedRows:
    """Do what can be done of an upsert without a connection: another thread or process may, while one writes.

    Args:
        layout: What the rows hold.
        rows: Values as Python has them, times with the zone UTC or none. JSON is either text that is JSON already, or an object to encode.

    Returns:
        The rows; of several with the same key the last one, as one statement must not write a row twice.
    """
    if not rows:
        return PackedRows(layout.names, 0)
    return pack_columns(layout, _last_per_key(transpose(rows), layout.key))


def pack_columns(layout: Layout, values: Sequence[Sequence[Any]]) -> PackedRows:
    """Pack what is in columns already, as it is.

    Args:
        layout: What the columns hold.
        values: The values of each, all of the same length.
    """
    count = len(values[0])
    if not layout.as_arrow:
        return PackedRows(layout.names, count, values=values)
    return PackedRows(layout.names, count, columns=[_pack_column(kind, column) for kind, column in zip(layout.kinds, values, strict=True)])


def json_texts(values: Sequence[Any]) -> Iterable[str | None]:
    """Encode what is no text yet."""
    return (value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode() for value in values)


def transpose(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows as columns.

    Raises:
        ValueError: They are not all of the same length.
    """
    return list(zip(*rows, strict=True))


def _last_per_key(values: list[Sequence[Any]], key: Sequence[int]) -> list[Sequence[Any]]:
    count = len(values[0])
    keys = values[key[0]] if len(key) == 1 else zip(*(values[position] for position in key), strict=True)
    last = dict(zip(keys, range(count), strict=True))
    if len(last) == count:
        return values
    return [[column[row] for row in last.values()] for column in values]


_ARROW_TYPES = {
    Kind.INTEGER: nanoarrow.int64(),
    Kind.FLOAT: nanoarrow.float64(),
    Kind.BOOLEAN: nanoarrow.bool_(),
    Kind.TIME: nanoarrow.timestamp("us"),
}
_TEXT_TYPE = nanoarrow.large_string()


def _as_array(column: PackedColumn, length: int) -> Any:
    arrow_type = _ARROW_TYPES.get(column.kind, _TEXT_TYPE)
    return nanoarrow.c_array_from_buffers(arrow_type, length, column.buffers, null_count=column.null_count)


def _pack_column(kind: Kind, values: Sequence[Any]) -> PackedColumn:
    match kind:
        case Kind.TEXT:
            return _pack_texts(kind, values)
        case Kind.JSON:
            return _pack_texts(kind, list(json_texts(values)))
        case Kind.OTHER:
            return _pack_texts(kind, [None if value is None else str(value) for value in values])
        case Kind.TIME:
            values = _microseconds(values)
    array_of_values = nanoarrow.c_array(values, _ARROW_TYPES[kind])
    present, stored = array_of_values.view().buffers
    null_count = array_of_values.null_count
    return PackedColumn(kind, null_count, (bytes(present) if null_count else None, bytes(stored)))


def _pack_texts(kind: Kind, texts: Sequence[str | None]) -> PackedColumn:
    """Put texts into Arrow's form; nanoarrow's own way leaves the encoded text with each string, which doubles what they take."""
    null_count = texts.count(None)
    if null_count == len(texts):
        return PackedColumn(kind, null_count, (bytes((len(texts) + 7) // 8), bytes(8 * (len(texts) + 1)), b""))
    present = bytes(nanoarrow.c_buffer([text is not None for text in texts], nanoarrow.bool_())) if null_count else None
    filled: Sequence[Any] = ["" if text is None else text for text in texts] if null_count else texts
    if all(map(str.isascii, filled)):  # as all ids are: encoding them one by one takes three times as long
        lengths, data = map(len, filled), "".join(filled).encode()
    else:
        encoded = [text.encode() for text in filled]
        lengths, data = map(len, encoded), b"".join(encoded)
    return PackedColumn(kind, null_count, (present, array("q", [0, *accumulate(lengths)]).tobytes(), data))


def _microseconds(values: Sequence[Any]) -> list[int | None]:
    if all(value is None or value.tzinfo is UTC for value in values):  # as with nearly all
        return [None if value is None else (value - _UTC_EPOCH) // _MICROSECOND for value in values]
    return [None if value is None else (value - _EPOCH) // _MICROSECOND for value in values]
