"""Make a DuckDB file as small as what it holds: DuckDB gives the room of a dropped table to new rows, and never back to the disk.

The tables that stay are copied into a new file beside the old one, the copy is compared with the original, and takes its name. The old file
is not written: a crash leaves it as it is, or the new one.
"""

from __future__ import annotations

from contextlib import suppress
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.checksum import row_counts, table_checksum
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
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM duckdb_columns()",
    "SELECT table_name, constraint_type, constraint_column_names, referenced_table, referenced_column_names FROM duckdb_constraints()",
    "SELECT table_name, index_name, expressions, is_unique FROM duckdb_indexes()",
)


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
    fresh = fresh_name(file)
    tables = _parents_first(connection, table)
    rows = row_counts(connection, tables)
    connection.commit()
    phases = [Phase(f"{work} {name}", rows[name]) for work in ("copy", "compare") for name in tables]
    try:
        with owner_only():
            connection.exec_driver_sql(f"ATTACH '{str(fresh).replace(chr(39), chr(39) * 2)}' AS {_COPY}")
            connection.commit()
            _make_tables(connection, table)
            for index, name in enumerate(tables):
                progress(phases, index)
                _copy_rows(connection, name)
        _compare_catalogue(connection, table)
        for index, name in enumerate(tables, start=len(tables)):
            progress(phases, index)
            _compare_rows(connection, name)
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


def _make_tables(connection: sa.Connection, left_out: str) -> None:
    """Make the tables of the copy with their keys and indexes, but for one; so the old file need not drop it before."""
    connection.exec_driver_sql(f"COPY FROM DATABASE {_source(connection)} TO {_COPY} (SCHEMA)")
    connection.exec_driver_sql(f"DROP TABLE {_COPY}.{_quote(connection, left_out)}")
    connection.commit()


def _copy_rows(connection: sa.Connection, table: str) -> None:
    name = _quote(connection, table)
    connection.exec_driver_sql(f"INSERT INTO {_COPY}.{name} SELECT * FROM {_source(connection)}.{name}")  # noqa: S608 - the catalogue's names
    connection.commit()


def _source(connection: sa.Connection) -> str:
    return _quote(connection, str(connection.scalar(sa.text("SELECT current_database()"))))


def _quote(connection: sa.Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _parents_first(connection: sa.Connection, left_out: str) -> Sequence[str]:
    """List the tables so that what a foreign key refers to comes before it."""
    inspector = sa.inspect(connection)
    parents = {
        table: {key["referred_table"] for key in inspector.get_foreign_keys(table)} - {table}
        for table in sorted(inspector.get_table_names())
        if table != left_out
    }
    connection.commit()
    return list(TopologicalSorter(parents).static_order())


def _compare_catalogue(connection: sa.Connection, left_out: str) -> None:
    """Compare columns, keys and indexes with the original's.

    Raises:
        DatabaseError: Something differs.
    """
    source = connection.scalar(sa.text("SELECT current_database()"))
    for statement in _CATALOGUE:
        kept = sa.text(f"{statement} WHERE database_name = :database AND table_name <> :table")
        rows = [{str(row) for row in connection.execute(kept, {"database": name, "table": left_out}).all()} for name in (source, _COPY)]
        if rows[0] != rows[1]:
            raise DatabaseError(f"the compact copy differs in {min(rows[0] ^ rows[1])}; nothing was changed")
    connection.commit()


def _compare_rows(connection: sa.Connection, table: str) -> None:
    """Compare every value of a table with the original's.

    Raises:
        DatabaseError: Something differs.
    """
    different = table_checksum(connection, table).differences(table_checksum(connection, table, database=_COPY))
    connection.commit()
    if different:
        raise DatabaseError(f"the compact copy differs in {table}: {', '.join(different)}; nothing was changed")
