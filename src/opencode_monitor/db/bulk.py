"""Many rows at once: staged beside the tables, then written with a few set-based statements.

DuckDB reads the rows from memory (an Arrow batch made by nanoarrow, registered under a name); PostgreSQL gets them by
COPY into a temporary table. Row-at-a-time inserts are some 20 times slower on DuckDB.

Nothing here begins or ends a transaction. A load keeps one connection for all its batches: closing DuckDB's last
connection rewrites the end of every table that was written.
"""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import nanoarrow
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["BulkCounts", "PackedRows", "pack", "staged", "upsert", "upsert_packed"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - database times are UTC without a zone
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BulkCounts:
    """What became of the rows of an upsert, one count per key."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: BulkCounts) -> BulkCounts:
        """Add up two batches."""
        return BulkCounts(self.new + other.new, self.changed + other.changed, self.unchanged + other.unchanged)


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    reset: Collection[str] = (),
    absent: bool = False,
) -> BulkCounts:
    """Insert the rows whose key is absent and update those that differ; doing it twice changes nothing.

    Columns of the primary key and those with `info={"write_once": True}` keep what was inserted first: on DuckDB an
    indexed column of a row that others refer to cannot be updated, not even to the same value.

    Args:
        connection: Written to, inside its open transaction.
        table: Its primary key identifies a row.
        columns: What the rows hold, in their order; the whole primary key is among them.
        rows: Values as Python has them. JSON is either text that is JSON already, or an object to encode.
        reset: Computed columns that become NULL in an updated row, because they were computed from what it held before.
        absent: The caller knows that no key is in the table; if one is, the statement fails. Looking for conflicts costs DuckDB
            a third of the time of inserting long texts.

    Returns:
        The counts. Of several rows with the same key the last one counts, once.
    """
    return upsert_packed(connection, pack(connection.dialect.name, table, columns, rows), reset=reset, absent=absent)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows of a table as columns, in the form in which an engine takes them.

    Attributes:
        table: Where they belong.
        columns: What they hold.
        count: How many they are; of several with the same key, the last one.
        values: The columns' values; empty where DuckDB reads the batch.
        batch: The same in Arrow's form, for DuckDB.
    """

    table: sa.Table
    columns: Sequence[sa.Column[Any]]
    count: int
    values: Sequence[Sequence[Any]]
    batch: nanoarrow.Array | None


def pack(dialect_name: str, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> PackedRows:
    """Do what can be done of an upsert without a connection: another thread may, while one writes.

    Args:
        dialect_name: The engine that is to get the rows.
        table: Its primary key identifies a row.
        columns: What the rows hold, in their order; the whole primary key is among them.
        rows: Values as for `upsert`.
    """
    chosen = [table.c[name] for name in columns]
    if not rows:
        return PackedRows(table, chosen, 0, (), None)
    values = _last_per_key(_transpose(rows), [columns.index(column.name) for column in table.primary_key.columns])
    if dialect_name == "duckdb":
        return PackedRows(table, chosen, len(values[0]), (), _arrow_batch(chosen, values))
    return PackedRows(table, chosen, len(values[0]), values, None)


def upsert_packed(
    connection: sa.Connection,
    packed: PackedRows,
    *,
    reset: Collection[str] = (),
    kept: Collection[str] = (),
    filled: Collection[str] = (),
    absent: bool = False,
) -> BulkCounts:
    """Write packed rows; for the rest see `upsert`.

    Args:
        connection: As for `upsert`.
        packed: The rows.
        reset: As for `upsert`.
        kept: Columns that a row which is stored already keeps as they are.
        filled: Columns whose value a row without one does not take away.
        absent: As for `upsert`.
    """
    if not packed.count:
        return BulkCounts()
    table, columns = packed.table, packed.columns
    names = tuple(column.name for column in columns)
    shape = _Shape(_Engine.of(connection), table, names, frozenset(reset), frozenset(kept), frozenset(filled))
    staging = (
        _copied(connection, shape.staging, columns, packed.values)
        if packed.batch is None
        else _registered(connection, shape.staging, packed.batch)
    )
    with staging:
        new = _execute(connection, _insert_text(shape, absent=absent))
        changed = 0
        if new < packed.count and (update := _update_text(shape)):
            changed = _execute(connection, update)
    return BulkCounts(new, changed, packed.count - new - changed)


@contextlib.contextmanager
def staged(
    connection: sa.Connection, name: str, columns: Sequence[sa.Column[Any]], rows: Sequence[Sequence[Any]]
) -> Iterator[sa.FromClause]:
    """Make rows selectable under a name for a while: a set of ids, a table of prices.

    Args:
        connection: The rows can be seen on it alone, inside its open transaction.
        name: How statements call them; not the name of a table.
        columns: Names and types, such as a table's own columns.
        rows: Values as for `upsert`; there may be none.

    Yields:
        What to select from, with the given columns.
    """
    values = _transpose(rows) if rows else [()] * len(columns)
    dialect_name = connection.dialect.name
    staging = (
        _registered(connection, name, _arrow_batch(columns, values))
        if dialect_name == "duckdb"
        else _copied(connection, name, columns, values)
    )
    with staging:
        yield _source(dialect_name, name, _fields(columns))


def _arrow_batch(columns: Sequence[sa.Column[Any]], values: Sequence[Sequence[Any]]) -> nanoarrow.Array:
    """Put columns into the form that DuckDB reads from this process's memory."""
    arrays: dict[str, Any] = {}
    for column, column_values in zip(columns, values, strict=True):
        arrow_type = _arrow_type(column.type)
        sent = list(_arrow_values(column.type, column_values))
        is_text = arrow_type is None or isinstance(_plain(column.type), sa.String)
        arrays[column.name] = _arrow_texts(sent) if is_text else nanoarrow.c_array(sent, arrow_type)
    batch = nanoarrow.c_array_from_buffers(
        nanoarrow.struct({column_name: array.schema for column_name, array in arrays.items()}),
        length=len(values[0]),
        buffers=[None],
        children=arrays.values(),
        null_count=0,
    )
    return nanoarrow.Array(batch)


def _arrow_texts(texts: list[str | None]) -> Any:
    """Put texts into Arrow's form; nanoarrow's own way leaves the encoded text with each string, which doubles what they take."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = array("q", [0, *accumulate(map(len, encoded))])
    null_count = texts.count(None)
    present = nanoarrow.c_buffer([text is not None for text in texts], nanoarrow.bool_()) if null_count else None
    buffers = [present, offsets, b"".join(encoded)]
    return nanoarrow.c_array_from_buffers(nanoarrow.large_string(), len(texts), buffers, null_count=null_count)


@contextlib.contextmanager
def _registered(connection: sa.Connection, name: str, batch: nanoarrow.Array) -> Iterator[None]:
    """Let DuckDB read the rows from this process's memory."""
    duckdb_connection: Any = connection.connection.driver_connection
    duckdb_connection.register(name, batch)
    try:
        yield
    finally:
        # Refused in a transaction that has failed; its rollback takes the name away too.
        with contextlib.suppress(duckdb.Error):
            duckdb_connection.unregister(name)


@contextlib.contextmanager
def _copied(connection: sa.Connection, name: str, columns: Sequence[sa.Column[Any]], values: Sequence[Sequence[Any]]) -> Iterator[None]:
    """Send the rows to PostgreSQL."""
    create, copy_in, drop = _staging_texts(_Engine.of(connection), name, _fields(columns))
    connection.exec_driver_sql(create)
    psycopg_connection: Any = connection.connection.driver_connection
    with psycopg_connection.cursor().copy(copy_in) as copy:
        for row in zip(*map(_postgresql_values, columns, values), strict=True):
            copy.write_row(row)
    try:
        yield
    finally:
        # Refused in a transaction that has failed; its rollback takes the table away too.
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.exec_driver_sql(drop)


# What follows makes statements. Making one takes longer than writing a small batch of rows, so each is made once and kept by what it
# follows from: the kind of engine, the table, the columns. The caches are bounded, at a few times what the program uses; they hold no rows.

_Fields = tuple[tuple[str, sa.types.TypeEngine[Any]], ...]
"""Names of columns, with their types: such an object is its own key, so that columns made once find their statement again."""


@dataclass(frozen=True, slots=True)
class _Engine:
    """An engine as a statement knows it: all databases of one kind get the same text."""

    name: str
    dialect: sa.Dialect = field(compare=False, repr=False)

    @classmethod
    def of(cls, connection: sa.Connection) -> _Engine:
        return cls(connection.dialect.name, connection.dialect)

    def write(self, statement: sa.ClauseElement) -> str:
        """Write the text of a statement without parameters."""
        return str(statement.compile(dialect=self.dialect))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the statements of an upsert follow from; for the attributes see `upsert_packed`."""

    engine: _Engine
    table: sa.Table
    names: tuple[str, ...]
    reset: frozenset[str]
    kept: frozenset[str]
    filled: frozenset[str]

    @property
    def staging(self) -> str:
        return f"staged_{self.table.name}"

    @property
    def source(self) -> sa.FromClause:
        return _source(self.engine.name, self.staging, _fields([self.table.c[name] for name in self.names]))

    @property
    def compared(self) -> list[sa.Column[Any]]:
        """The columns that an update looks at, and writes."""
        columns = [self.table.c[name] for name in self.names if name not in self.kept]
        return [column for column in columns if not column.primary_key and not column.info.get("write_once")]


def _fields(columns: Sequence[sa.Column[Any]]) -> _Fields:
    return tuple((column.name, column.type) for column in columns)


@lru_cache(maxsize=256)
def _source(dialect_name: str, name: str, fields: _Fields) -> sa.FromClause:
    """Return what to select staged rows from. It is no `sa.Table`: SQLAlchemy would keep the statements upon one by its identity."""
    if dialect_name != "duckdb":
        return sa.table(name, *(sa.column(column_name, type_) for column_name, type_ in fields))
    selected: list[sa.ColumnElement[Any]] = []
    for column_name, type_ in fields:
        sent: sa.ColumnElement[Any] = sa.column(column_name, type_)
        if _arrow_type(type_) is None:
            sent = sa.cast(sa.column(column_name, sa.Text()), type_)
        selected.append(sent.label(column_name))
    return sa.select(*selected).select_from(sa.table(name)).subquery(name)


@lru_cache(maxsize=256)
def _staging_texts(engine: _Engine, name: str, fields: _Fields) -> tuple[str, str, str]:
    """Write how PostgreSQL makes the table of staged rows, takes them, and drops it."""
    columns = [sa.Column(column_name, type_) for column_name, type_ in fields]
    table = sa.Table(name, sa.MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
    quote = engine.dialect.identifier_preparer.quote
    names = ", ".join(quote(column_name) for column_name, _ in fields)
    return engine.write(sa.schema.CreateTable(table)), f"COPY {quote(name)} ({names}) FROM STDIN", f"DROP TABLE {quote(name)}"


@lru_cache(maxsize=256)
def _insert_text(shape: _Shape, *, absent: bool) -> str:
    """Write the statement that inserts the staged rows whose key is absent."""
    insert = postgresql.insert(shape.table).from_select(shape.names, sa.select(shape.source), include_defaults=False)
    keep_stored = insert.on_conflict_do_nothing(index_elements=list(shape.table.primary_key.columns))
    return shape.engine.write(insert if absent else keep_stored)


@lru_cache(maxsize=256)
def _update_text(shape: _Shape) -> str | None:
    """Write the statement that updates the rows which differ from the staged row with the same key; None where nothing is compared."""
    table, source, compared = shape.table, shape.source, shape.compared
    if not compared:
        return None
    key = list(table.primary_key.columns)
    if shape.engine.name == "duckdb":
        # Keys are matched first, and rows fetched by their number: DuckDB then reads the texts of that part of the table
        # only. Matching directly, or by ON CONFLICT DO UPDATE, reads every text of the table, even for a single row.
        present = table.alias("present")
        matched = sa.and_(*(present.c[column.name] == source.c[column.name] for column in key))
        row_number: sa.Label[int] = sa.literal_column("present.rowid").label("row_number")
        incoming: sa.FromClause = sa.select(source, row_number).select_from(source.join(present, matched)).subquery("incoming")
        table_name = shape.engine.dialect.identifier_preparer.format_table(table)
        same_row = sa.literal_column(f"{table_name}.rowid") == incoming.c.row_number
    else:
        incoming = source
        same_row = sa.and_(*(column == incoming.c[column.name] for column in key))
    values: dict[str, sa.ColumnElement[Any]] = {
        column.name: sa.func.coalesce(incoming.c[column.name], column) if column.name in shape.filled else incoming.c[column.name]
        for column in compared
    }
    differs = sa.or_(*(_comparable(column).is_distinct_from(_comparable(values[column.name])) for column in compared))
    new_values = values | dict.fromkeys(shape.reset, sa.null())
    return shape.engine.write(sa.update(table).values(new_values).where(same_row, differs))


def _execute(connection: sa.Connection, statement: str) -> int:
    """Run a statement without parameters, and return how many rows it wrote."""
    # DuckDB answers with the number as a row, which SQLAlchemy throws away for a statement that it made itself.
    result = connection.exec_driver_sql(statement)
    return int(result.scalar_one()) if result.returns_rows else result.rowcount


def _transpose(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True))


def _last_per_key(values: list[Sequence[Any]], key: Sequence[int]) -> list[Sequence[Any]]:
    """Keep the last of several rows with the same key: one statement must not write a row twice."""
    count = len(values[0])
    last = dict(zip(zip(*(values[position] for position in key), strict=True), range(count), strict=True))
    if len(last) == count:
        return values
    return [[column[row] for row in last.values()] for column in values]


def _comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Compare JSON as text: PostgreSQL's json has no equality."""
    return sa.cast(column, sa.Text()) if isinstance(_plain(column.type), sa.JSON) else column


def _plain(type_: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_


def _arrow_type(type_: sa.types.TypeEngine[Any]) -> Any | None:
    """Choose the type for the way; None for what travels as text and is cast on arrival, such as Decimal and JSON."""
    match _plain(type_):
        case sa.String():
            return nanoarrow.large_string()
        case sa.Integer():
            return nanoarrow.int64()
        case sa.Float():
            return nanoarrow.float64()
        case sa.Boolean():
            return nanoarrow.bool_()
        case sa.DateTime():
            return nanoarrow.timestamp("us")
        case _:
            return None


def _arrow_values(type_: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Iterable[Any]:
    match _plain(type_):
        case sa.String() | sa.Integer() | sa.Float() | sa.Boolean():
            return values
        case sa.DateTime():
            if all(value is None or value.tzinfo is UTC for value in values):  # nothing to convert, as with nearly all
                return [None if value is None else (value - _UTC_EPOCH) // _MICROSECOND for value in values]
            naive = _utc_times(type_, values)
            return (None if value is None else (value - _EPOCH) // _MICROSECOND for value in naive)
        case sa.JSON():
            return _json_texts(values)
        case _:
            return (None if value is None else str(value) for value in values)


def _postgresql_values(column: sa.Column[Any], values: Sequence[Any]) -> Iterable[Any]:
    match _plain(column.type):
        case sa.String():
            # PostgreSQL has no NUL in text, and tool output may contain it.
            return (None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}") for value in values)
        case sa.DateTime():
            return _utc_times(column.type, values)
        case sa.JSON():
            return _json_texts(values)
        case _:
            return values


def _utc_times(type_: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Iterable[datetime | None]:
    """Let the type decide what it accepts, as it does for a single row."""
    if isinstance(type_, sa.types.TypeDecorator):
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy's
        return (type_.process_bind_param(value, dialect) for value in values)
    return values


def _json_texts(values: Sequence[Any]) -> Iterable[str | None]:
    return (value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode() for value in values)
