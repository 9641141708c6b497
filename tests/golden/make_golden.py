"""Write the golden databases: for each revision a small DuckDB file that stands at it, with rows in every table.

    python tests/golden/make_golden.py [--again REVISION]

Files that are there are left alone: they are what the program wrote when their revision was new. Only those that are missing are written,
and the one that `--again` names.

One database goes through the history. At each revision it gets the rows of `golden_rows.py`, and for tables and columns that are still
empty a row made up by the types of its columns.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import sqlalchemy as sa
from sqlalchemy import types

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from golden.golden_rows import OLD, SINCE, Rows  # noqa: E402 - found by the line above
from opencode_monitor.db.engine import create_database_engine  # noqa: E402 - as above
from opencode_monitor.db.migrate import upgrade  # noqa: E402 - as above
from opencode_monitor.db.revision import REVISIONS  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Collection

_BLOCK_SIZE = 16_384
_LEFT_ALONE = {"alembic_version", "parts_legacy", "migration_audit"}
_MADE_UP: dict[type[types.TypeEngine[Any]], object] = {
    types.Boolean: True,
    types.BigInteger: 2**40,
    types.Integer: 7,
    types.Double: 0.1,
    types.Float: 0.1,
    types.Numeric: Decimal("0.123456789012"),
    types.DateTime: datetime(2026, 1, 5, 9, 30, 0, 123456),  # noqa: DTZ001 - as the database has it: UTC without a zone
    types.JSON: '{ "made":  "up" }',
}
# When a proof was taken, and by which release, is not the same twice; the proof is.
_FIX_PROOFS = """
    DELETE FROM migration_audit WHERE revision = 'denormalize_parts' AND table_name <> 'parts';
    UPDATE migration_audit SET audit_id = concat_ws(':', revision, direction, phase), seconds = 0.25, program_version = '0.1.0',
           created_at = TIMESTAMP '2026-01-05 12:00:00' + CASE phase WHEN 'before' THEN 0 ELSE 1 END * INTERVAL '1 second'
    WHERE revision = 'denormalize_parts'
"""


def write_golden(folder: Path, wanted: Collection[str]) -> list[Path]:
    """Write the databases of some revisions.

    Args:
        folder: Where `<revision>.duckdb` goes.
        wanted: The revisions.

    Returns:
        The files.
    """
    written = []
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-golden-") as directory:
        file = Path(directory) / "monitor.duckdb"
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{file}' AS small (BLOCK_SIZE {_BLOCK_SIZE})")
        engine = create_database_engine(f"duckdb:///{file}")
        # Kept open: DuckDB would open the file four times for each revision.
        with engine.connect():
            for revision in REVISIONS:
                if not set(wanted) & set(REVISIONS[REVISIONS.index(revision) :]):
                    break
                _fill(file, revision)
                if revision in wanted:
                    written.append(Path(shutil.copyfile(file, folder / f"{revision}.duckdb")))
        engine.dispose()
    return written


def rows_at(revision: str) -> Rows:
    """Return every row that is written down and that a database at a revision has, by table."""
    rows = {table: list(values) for table, values in OLD.items()}
    for earlier in REVISIONS[1 : REVISIONS.index(revision) + 1]:
        for table, values in SINCE.get(earlier, {}).items():
            rows.setdefault(table, []).extend(values)
    return rows


def _fill(file: Path, revision: str) -> None:
    """Bring a database up by one revision, and write the rows of that revision."""
    url = f"duckdb:///{file}"
    upgrade(url, revision)
    engine = create_database_engine(url)
    with engine.begin() as connection:
        if revision == "denormalize_parts":
            for statement in _FIX_PROOFS.split(";"):
                connection.exec_driver_sql(statement)
        for table, rows in (OLD if revision == REVISIONS[0] else SINCE.get(revision, {})).items():
            for row in rows:
                _insert(connection, table, row)
    with engine.begin() as connection:
        _make_up(connection, revision)
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def _insert(connection: sa.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"), row)


def _make_up(connection: sa.Connection, revision: str) -> None:
    """Give a row to each table that has none, or has a column without a value."""
    inspector = sa.inspect(connection)
    for table in sorted(set(inspector.get_table_names()) - _LEFT_ALONE):
        columns = inspector.get_columns(table)
        counts = ", ".join(f"count({column['name']})" for column in columns)
        if all(connection.exec_driver_sql(f"SELECT {counts} FROM {table}").one()):
            continue
        row = {column["name"]: _made_up(revision, table, column["name"], column["type"]) for column in columns}
        for key in inspector.get_foreign_keys(table):
            ((name,), (referred,)) = key["constrained_columns"], key["referred_columns"]
            # The last that has no row here yet: where the reference is the key, it may stand there once.
            row[name] = (
                connection.exec_driver_sql(
                    f"SELECT max({referred}) FROM {key['referred_table']} WHERE {referred} NOT IN (SELECT {name} FROM {table})"
                ).scalar_one()
                or connection.exec_driver_sql(f"SELECT max({referred}) FROM {key['referred_table']}").scalar_one()
            )
        _insert(connection, table, row)


def _made_up(revision: str, table: str, column: str, column_type: types.TypeEngine[Any]) -> object:
    for kind, value in _MADE_UP.items():
        if isinstance(column_type, kind):
            return value
    return f"{revision}: {table}.{column} é"


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write the golden databases that are missing.")
    parser.add_argument("--again", choices=REVISIONS, action="append", default=[], help="write this one though it is there")
    options = parser.parse_args()
    missing = [revision for revision in REVISIONS if not (FOLDER / f"{revision}.duckdb").exists()]
    for file in write_golden(FOLDER, {*missing, *options.again}):
        print(f"{file.name}: {file.stat().st_size:,} bytes")  # noqa: T201 - the script's answer


if __name__ == "__main__":
    _main()
