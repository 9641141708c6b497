"""Make a DuckDB file as small as what it holds: DuckDB gives the room of a dropped table to new rows, and never back to the disk.

The tables that stay are copied into a new file beside the old one, the copy is compared with the original, and takes its name. The old file
is not written: a crash leaves it as it is, or the new one.
"""

from __future__ import annotations

from contextlib import suppress
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.checksum import checksum
from opencode_monitor.db.dialect import owner_only
from opencode_monitor.db.files import fresh_name, put_in_place
from opencode_monitor.db.progress import Phase
from opencode_monitor.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opencode_monitor.db.progress import Show

_COPY = "opencode_monitor_compact_copy"
# What a table promises, from DuckDB's own catalogue.
_CATALOGUE = (
    "SELECT schema_name, table_name, column_name, data_type, is_nullable, column_default FROM duckdb_columns()",
    (
        "SELECT schema_name, table_name, constraint_type, constraint_column_names, referenced_table, referenced_column_names"
        " FROM duckdb_constraints()"
    ),
    "SELECT schema_name, table_name, index_name, expressions, is_unique FROM duckdb_indexes()",
)
_OF_TABLE = "database_name = current_database() AND schema_name = :schema AND table_name = :table"


class _Table(NamedTuple):
    """A table, of whichever schema: a file may hold more than this program's."""

    schema: str
    name: str


def replace_without(connection: sa.Connection, file: Path, table: str, *, progress: Show) -> None:
    """Put a copy of a database that lacks one table in the database's place.

    Args:
        connection: The one of `migration_connection`, outside of a transaction; it still shows the old file afterwards, so close it.
        file: The database's file.
        table: The table to leave out.
        progress: Is told of each table that is copied and compared.

    Raises:
        DatabaseError: The copy cannot be written or is not equal; the database is as it was.
    """
    # Whoever opens the new file must not find the old one's log beside it.
    connection.exec_driver_sql("CHECKPOINT")
    fresh = fresh_name(file)
    left_out = _Table(str(connection.scalar(sa.text("SELECT current_schema()"))), table)
    tables = _parents_first(connection, left_out)
    rows = {kept: int(connection.scalar(sa.text(f"SELECT count(*) FROM {_relation(connection, kept)}")) or 0) for kept in tables}  # noqa: S608 - the catalogue's names
    connection.commit()
    phases = [Phase(f"{work} {kept.name}", rows[kept]) for work in ("copy", "compare") for kept in tables]
    try:
        with owner_only():
            connection.exec_driver_sql(f"ATTACH '{str(fresh).replace(chr(39), chr(39) * 2)}' AS {_COPY}")
            connection.commit()
            _make_tables(connection, left_out)
            for index, kept in enumerate(tables):
                progress(phases, index)
                _copy_rows(connection, kept)
        _compare_catalogue(connection, left_out)
        for index, kept in enumerate(tables, start=len(tables)):
            progress(phases, index)
            _compare_rows(connection, kept)
        with owner_only():
            connection.exec_driver_sql(f"CHECKPOINT {_COPY}")
            connection.commit()
            connection.exec_driver_sql(f"DETACH {_COPY}")
            connection.commit()
        put_in_place(fresh, file)
        progress(phases, len(phases))
    except (OSError, sa.exc.DBAPIError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise DatabaseError(f"cannot write {fresh}: {reason}. {file} is as it was.") from error
    finally:
        with suppress(sa.exc.DBAPIError):
            # After a failure it is still attached, and DuckDB would write it once more when it closes.
            connection.rollback()
            connection.exec_driver_sql(f"DETACH DATABASE IF EXISTS {_COPY}")
            connection.commit()
        for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
            with suppress(FileNotFoundError):
                left.unlink()


def _make_tables(connection: sa.Connection, left_out: _Table) -> None:
    """Make the tables of the copy with their keys and indexes, but for one; so the old file need not drop it before."""
    source = _quote(connection, _database(connection))
    connection.exec_driver_sql(f"COPY FROM DATABASE {source} TO {_COPY} (SCHEMA)")
    connection.exec_driver_sql(f"DROP TABLE {_relation(connection, left_out, _COPY)}")
    connection.commit()


def _copy_rows(connection: sa.Connection, table: _Table) -> None:
    original, copy = _relation(connection, table), _relation(connection, table, _COPY)
    connection.exec_driver_sql(f"INSERT INTO {copy} SELECT * FROM {original}")  # noqa: S608 - the catalogue's names
    connection.commit()


def _database(connection: sa.Connection) -> str:
    return str(connection.scalar(sa.text("SELECT current_database()")))


def _quote(connection: sa.Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _relation(connection: sa.Connection, table: _Table, database: str | None = None) -> str:
    """Write a table's full name, in the original where no other database is given."""
    return ".".join(_quote(connection, name) for name in (database or _database(connection), *table))


def _parents_first(connection: sa.Connection, left_out: _Table) -> Sequence[_Table]:
    """List the tables of every schema so that what a foreign key refers to comes before it; DuckDB's keys stay within a schema."""
    names = sa.text("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() AND NOT temporary")
    keys = sa.text(
        "SELECT schema_name, table_name, referenced_table FROM duckdb_constraints()"
        " WHERE database_name = current_database() AND constraint_type = 'FOREIGN KEY'"
    )
    parents: dict[_Table, set[_Table]] = {_Table(*row): set() for row in sorted(map(tuple, connection.execute(names).all()))}
    del parents[left_out]
    for schema, table, referenced in connection.execute(keys).all():
        if _Table(schema, table) in parents and table != referenced:
            parents[_Table(schema, table)].add(_Table(schema, referenced))
    connection.commit()
    return list(TopologicalSorter(parents).static_order())


def _compare_catalogue(connection: sa.Connection, left_out: _Table) -> None:
    """Compare columns, keys and indexes with the original's.

    Raises:
        DatabaseError: Something differs.
    """
    for statement in _CATALOGUE:
        kept = sa.text(f"{statement} WHERE database_name = :database AND NOT (schema_name = :schema AND table_name = :table)")
        rows = [
            {str(row) for row in connection.execute(kept, {"database": name, "schema": left_out.schema, "table": left_out.name}).all()}
            for name in (_database(connection), _COPY)
        ]
        if rows[0] != rows[1]:
            raise DatabaseError(f"the compact copy differs in {min(rows[0] ^ rows[1])}; nothing was changed")
    connection.commit()


def _compare_rows(connection: sa.Connection, table: _Table) -> None:
    """Compare every value of a table with the original's.

    Raises:
        DatabaseError: Something differs.
    """
    original, copy = _relation(connection, table), _relation(connection, table, _COPY)
    of_table = {"schema": table.schema, "table": table.name}
    key = connection.scalar(
        sa.text(f"SELECT constraint_column_names FROM duckdb_constraints() WHERE {_OF_TABLE} AND constraint_type = 'PRIMARY KEY'"),  # noqa: S608 - fixed text
        of_table,
    )
    if key:
        columns = connection.execute(sa.text(f"SELECT column_name FROM duckdb_columns() WHERE {_OF_TABLE}"), of_table).scalars().all()  # noqa: S608 - as above
        different = checksum(connection, original, key, columns).differences(checksum(connection, copy, key, columns))
    else:
        # Nothing identifies a row, so each has to be found as often in the one as in the other.
        missing, added = (
            connection.scalar(sa.text(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})"))  # noqa: S608 - the catalogue's names
            for one, other in ((original, copy), (copy, original))
        )
        different = ["rows"] if missing or added else []
    connection.commit()
    if different:
        raise DatabaseError(f"the compact copy differs in {table.name}: {', '.join(different)}; nothing was changed")
