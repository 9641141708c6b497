"""Databases that each revision has left behind go up to head and down to the first, with the values that were written into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import sqlalchemy as sa

from golden.golden_rows import NEW_IN_OLD, OLD
from golden.make_golden import FOLDER, rows_at, write_golden
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade
from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS, current_revision
from opencode_monitor.integrity.checks import run_checks

if TYPE_CHECKING:
    from collections.abc import Iterator


MOVE = "denormalize_parts"
STUB_TITLE = "(recovered: parts without a session)"
Content = dict[str, dict[tuple[str | None, ...], dict[str, str | None]]]


def keys_of(connection: sa.Connection) -> dict[str, list[str]]:
    """Return the columns of the primary key of every table: of all at once, where the inspector asks for each."""
    query = "SELECT table_name, constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
    return {table: list(names) for table, names in connection.exec_driver_sql(query)}


def columns_of(file: Path) -> dict[str, list[str]]:
    """Return the columns of every table but Alembic's own, those of the key first."""
    engine = create_database_engine(f"duckdb:///{file}")
    columns: dict[str, list[str]] = {}
    with engine.connect() as connection:
        keys = keys_of(connection)
        query = (
            "SELECT table_name, column_name FROM duckdb_columns() JOIN duckdb_tables() USING (database_oid, schema_oid, table_name)"
            " WHERE table_name <> 'alembic_version' ORDER BY table_name, column_index"
        )
        for table, name in connection.exec_driver_sql(query):
            names = columns.setdefault(table, [*keys.get(table, [])])
            if name not in names:
                names.append(name)
    return columns


def read(file: Path, columns: dict[str, list[str]]) -> Content:
    """Read some columns of some tables as text, by what identifies a row."""
    engine = create_database_engine(f"duckdb:///{file}")
    content: Content = {}
    with engine.connect() as connection:
        keys = keys_of(connection)
        for table, names in columns.items():
            key = keys.get(table, [])
            texts = ", ".join(f'CAST("{name}" AS VARCHAR) AS "{name}"' for name in {**dict.fromkeys(key), **dict.fromkeys(names)})
            rows = [dict(row) for row in connection.execute(sa.text(f"SELECT {texts} FROM {table}")).mappings()]
            content[table] = {tuple(row[name] for name in key): row for row in rows}
    return content


def revision_of(file: Path) -> str | None:
    engine = create_database_engine(f"duckdb:///{file}")
    with engine.connect() as connection:
        return current_revision(connection)


def missing(file: Path, written: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the written rows that their tables do not hold, value for value and type for type."""
    engine = create_database_engine(f"duckdb:///{file}")
    found: dict[str, list[dict[str, Any]]] = {}
    with engine.connect() as connection:
        documents: dict[str, list[str]] = {}
        for table, name in connection.exec_driver_sql("SELECT table_name, column_name FROM duckdb_columns() WHERE data_type = 'JSON'"):
            documents.setdefault(table, []).append(name)
        for table, rows in written.items():
            # JSON as it was written, its spacing included.
            texts = ", ".join(f"CAST({name} AS TEXT) AS {name}" for name in documents.get(table, []))
            values = f"* REPLACE ({texts})" if texts else "*"
            held = [dict(row) for row in connection.execute(sa.text(f"SELECT {values} FROM {table}")).mappings()]
            found[table] = [
                row for row in rows if not any(all(repr(one[name]) == repr(value) for name, value in row.items()) for one in held)
            ]
    return found


def shapes_of(connection: duckdb.DuckDBPyConnection, database: str) -> dict[str, list[tuple[str, str]]]:
    """Return the columns of every table but Alembic's own, with their types, in their order."""
    columns = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = ? AND NOT internal AND table_name <> 'alembic_version' ORDER BY table_name, column_index",
        [database],
    ).fetchall()
    shapes: dict[str, list[tuple[str, str]]] = {}
    for table, name, type_ in columns:
        shapes.setdefault(table, []).append((name, type_))
    return shapes


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Copy the golden database of a revision."""
    file = Path(shutil.copy(FOLDER / f"{request.param}.duckdb", tmp_path / "golden.duckdb"))
    # Kept open: DuckDB takes 20 ms to open a file, and a test does it for each table.
    with create_database_engine(f"duckdb:///{file}").connect():
        yield file


each_revision = pytest.mark.parametrize(("golden", "revision"), [(revision, revision) for revision in REVISIONS], indirect=["golden"])


def test_golden_every_revision_has_its_file() -> None:
    # A new revision's is written by `make golden`.
    assert {path.stem for path in FOLDER.glob("*.duckdb")} == set(REVISIONS)


@each_revision
def test_golden_file_has_values_in_every_table_and_column(golden: Path, revision: str) -> None:
    columns = columns_of(golden)

    content = read(golden, columns)

    empty = [
        f"{table}.{name}" for table, names in columns.items() for name in names if all(row[name] is None for row in content[table].values())
    ]
    assert empty == []
    assert revision_of(golden) == revision
    assert golden.stat().st_size < 3_000_000


def test_golden_files_hold_what_the_script_writes(tmp_path: Path) -> None:
    # One after the other on DuckDB's own connection: to read all of them by the inspector would take longer than to write them.
    write_golden(tmp_path, REVISIONS)

    different = []
    with duckdb.connect() as connection:
        for revision in REVISIONS:
            connection.execute(f"ATTACH '{FOLDER / revision}.duckdb' AS kept (READ_ONLY)")
            connection.execute(f"ATTACH '{tmp_path / revision}.duckdb' AS again (READ_ONLY)")
            kept, again = shapes_of(connection, "kept"), shapes_of(connection, "again")
            assert kept == again
            assert len(kept) >= len(OLD)
            for table in kept:
                texts = "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM"
                left, right = f"{texts} kept.{table}", f"{texts} again.{table}"
                rows = connection.execute(f"({left} EXCEPT ALL {right}) UNION ALL ({right} EXCEPT ALL {left})").fetchall()
                different += [(revision, table, row) for row in rows]
            connection.execute("DETACH kept; DETACH again")
    assert different == []


@each_revision
def test_golden_file_upgrades_to_head_with_the_same_values(golden: Path, revision: str) -> None:
    is_old = REVISIONS.index(revision) < REVISIONS.index(MOVE)
    written = rows_at(revision)
    missing_before = missing(golden, {table: rows for table, rows in written.items() if table != "parts" or is_old})
    columns = columns_of(golden)
    before = read(golden, columns)
    if is_old:
        columns["parts_legacy"] = columns.pop("parts")
        before["parts_legacy"] = before.pop("parts")

    upgrade(f"duckdb:///{golden}")

    after = read(golden, columns)
    for table, rows in before.items():
        kept = {key: row for key, row in after[table].items() if key in rows}
        added = [row for key, row in after[table].items() if key not in rows]
        assert kept == rows, table
        if is_old and table == "sessions":
            assert {row["title"] for row in added} == {STUB_TITLE}
        elif table != "migration_audit" or not is_old:
            assert added == [], table
    engine = create_database_engine(f"duckdb:///{golden}")
    with engine.connect() as connection:
        findings = {result.check: result.findings for result in run_checks(connection)}
    assert not any(missing_before.values())
    assert revision_of(golden) == HEAD_REVISION
    assert findings["orphans"] == findings["missing-parts"] == findings["fingerprints"] == []


@each_revision
def test_golden_file_downgrades_to_the_first_revision_and_to_nothing(golden: Path, revision: str) -> None:
    written = rows_at(revision)
    baseline = columns_of(FOLDER / "baseline.duckdb")
    expected = {table: [{name: row[name] for name in row if name in names} for row in written[table]] for table, names in baseline.items()}
    if REVISIONS.index(revision) >= REVISIONS.index(MOVE):
        expected["parts"] = [row for row in expected["parts"] if not str(row["part_id"]).startswith("prt_new_")] + NEW_IN_OLD

    downgrade(f"duckdb:///{golden}", "baseline")
    found = read(golden, baseline)
    missing_then = missing(golden, expected)
    downgrade(f"duckdb:///{golden}", "base")

    assert missing_then == {table: [] for table in baseline}
    assert {key for key, row in found["sessions"].items() if row["title"] == STUB_TITLE} == set()
    assert len(found["parts"]) == len(expected["parts"])
    assert columns_of(golden) == {}


@pytest.mark.parametrize("golden", ["baseline"], indirect=True)
def test_golden_baseline_file_goes_up_and_down_unchanged(golden: Path) -> None:
    columns = columns_of(golden)
    before = read(golden, columns)

    upgrade(f"duckdb:///{golden}")
    downgrade(f"duckdb:///{golden}", "baseline")

    assert set(before) == set(OLD)
    assert columns_of(golden) == columns
    assert read(golden, columns) == before
