"""Many rows at once: staged beside the tables, then written with a few set-based statements.

DuckDB reads the rows from memory (an Arrow batch made by nanoarrow, registered under a name); PostgreSQL gets them by
COPY into a temporary table. Row-at-a-time inserts are some 20 times slower on DuckDB.

Nothing here begins or ends a transaction. A load keeps one connection for all its batches: closing DuckDB's last
connection rewrites the end of every table that was written.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from opencode_monitor.db.packing import Kind, Layout, PackedRows, json_texts, pack, pack_columns, transpose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import nanoarrow

__all__ = ["BulkCounts", "layout_of", "staged", "upsert", "upsert_packed"]


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
    layout = layout_of(connection.dialect.name, table, tuple(columns))
    packed = pack(layout, _with_times(layout, [table.c[name] for name in columns], rows))
    return upsert_packed(connection, table, packed, reset=reset, absent=absent)


@lru_cache(maxsize=256)
def layout_of(dialect_name: str, table: sa.Table, columns: tuple[str, ...]) -> Layout:
    """Tell what rows of a table hold, for them to be packed where there is no connection.

    Args:
        dialect_name: The engine that is to get the rows.
        table: Its primary key identifies a row.
        columns: What the rows hold, in their order; the whole primary key is among them.
    """
    kinds = tuple(_kind_of(table.c[name].type) for name in columns)
    key = tuple(columns.index(column.name) for column in table.primary_key.columns)
    return Layout(columns, kinds, key, as_arrow=dialect_name == "duckdb")


def upsert_packed(
    connection: sa.Connection,
    table: sa.Table,
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
        table: As for `upsert`.
        packed: The rows, by the table's layout.
        reset: As for `upsert`.
        kept: Columns that a row which is stored already keeps as they are.
        filled: Columns whose value a row without one does not take away.
        absent: As for `upsert`.
    """
    if not packed.count:
        return BulkCounts()
    shape = _Shape(_Engine.of(connection), table, packed.names, frozenset(reset), frozenset(kept), frozenset(filled))
    staging = _staging(connection, shape.staging, [table.c[name] for name in packed.names], packed)
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
    dialect_name = connection.dialect.name
    names, kinds = tuple(column.name for column in columns), tuple(_kind_of(column.type) for column in columns)
    layout = Layout(names, kinds, (), as_arrow=dialect_name == "duckdb")
    values = transpose(_with_times(layout, columns, rows)) if rows else [()] * len(columns)
    with _staging(connection, name, columns, pack_columns(layout, values)):
        yield _source(dialect_name, name, _fields(columns))


def _with_times(layout: Layout, columns: Sequence[sa.Column[Any]], rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """Let the types decide which times they accept, as they do for a single row; PostgreSQL's are asked when the rows are sent."""
    values: list[Sequence[Any]] | None = None
    for position, kind in enumerate(layout.kinds if layout.as_arrow else ()):
        if kind is Kind.TIME and any(row[position] is not None and row[position].tzinfo is not UTC for row in rows):
            values = values or transpose(rows)
            values[position] = list(_utc_times(columns[position].type, values[position]))
    return rows if values is None else transpose(values)


def _staging(
    connection: sa.Connection, name: str, columns: Sequence[sa.Column[Any]], packed: PackedRows
) -> contextlib.AbstractContextManager[None]:
    if connection.dialect.name == "duckdb":
        return _registered(connection, name, packed.as_batch())
    return _copied(connection, name, columns, packed.values)


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


_KINDS: dict[type[sa.types.TypeEngine[Any]], Kind] = {
    sa.String: Kind.TEXT,
    sa.Integer: Kind.INTEGER,
    sa.Float: Kind.FLOAT,
    sa.Boolean: Kind.BOOLEAN,
    sa.DateTime: Kind.TIME,
    sa.JSON: Kind.JSON,
}


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
        if _kind_of(type_) in (Kind.JSON, Kind.OTHER):
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


def _comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Compare JSON as text: PostgreSQL's json has no equality."""
    return sa.cast(column, sa.Text()) if isinstance(_plain(column.type), sa.JSON) else column


def _plain(type_: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_


def _kind_of(type_: sa.types.TypeEngine[Any]) -> Kind:
    plain = _plain(type_)
    return next((kind for of_kind, kind in _KINDS.items() if isinstance(plain, of_kind)), Kind.OTHER)


def _postgresql_values(column: sa.Column[Any], values: Sequence[Any]) -> Iterable[Any]:
    match _plain(column.type):
        case sa.String():
            # PostgreSQL has no NUL in text, and tool output may contain it.
            return (None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}") for value in values)
        case sa.DateTime():
            return _utc_times(column.type, values)
        case sa.JSON():
            return json_texts(values)
        case _:
            return values


def _utc_times(type_: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Iterable[datetime | None]:
    """Let the type decide what it accepts, as it does for a single row."""
    if isinstance(type_, sa.types.TypeDecorator):
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy's
        return (type_.process_bind_param(value, dialect) for value in values)
    return values
