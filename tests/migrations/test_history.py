"""The revision files as a history, and the schema they end in."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from opencode_monitor.db.autogenerate import PARTS_LEGACY, compare_server_default, compare_type, include_object
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, script_location, upgrade
from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS, current_revision
from opencode_monitor.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILES = sorted(script_location().glob("versions/*.py"))

# architecture.md, in its order: the 16 columns that the plan names, and the 13 that it calls "more mixed columns".
BASELINE_PARTS = {
    "part_id": "text",
    "session_id": "text",
    "part_type": "text",
    "content": "text",
    "tool_name": "text",
    "tool_args": "json",
    "tool_result": "text",
    "execution_time_ms": "double precision",
    "file_path": "text",
    "file_operation": "text",
    "git_branch": "text",
    "git_commit": "text",
    "git_diff": "text",
    "error_data": "json",
    "error_category": "text",
    "thinking_tokens": "integer",
    "message_id": "text",
    "created_at": "timestamp without time zone",
    "ended_at": "timestamp without time zone",
    "call_id": "text",
    "tool_status": "text",
    "child_session_id": "text",
    "error_message": "text",
    "tokens_input": "bigint",
    "tokens_output": "bigint",
    "tokens_reasoning": "bigint",
    "tokens_cache_read": "bigint",
    "tokens_cache_write": "bigint",
    "cost_usd": "double precision",
}
POSTGRESQL_TYPE = {"VARCHAR": "text", "DOUBLE": "double precision", "TIMESTAMP": "timestamp without time zone"}


class TableShape(NamedTuple):
    """What a table promises, without the names of its constraints, which DuckDB forgets."""

    columns: list[tuple[str, bool]]
    primary_key: tuple[str, ...]
    unique: set[tuple[str, ...]]
    foreign_keys: set[tuple[tuple[str, ...], str, tuple[str, ...]]]
    indexes: set[tuple[str, tuple[str, ...], bool]]


def wanted_shape(table: sa.Table) -> TableShape:
    """Read a table's shape from the models."""
    return TableShape(
        columns=[(column.name, bool(column.nullable)) for column in table.columns],
        primary_key=tuple(table.primary_key.columns.keys()),
        unique={tuple(constraint.columns.keys()) for constraint in table.constraints if isinstance(constraint, sa.UniqueConstraint)},
        foreign_keys={
            (tuple(key.column_keys), key.referred_table.name, tuple(element.column.name for element in key.elements))
            for key in table.foreign_key_constraints
        },
        indexes={(str(index.name), tuple(index.columns.keys()), bool(index.unique)) for index in table.indexes},
    )


def found_shape(connection: sa.Connection, table: str) -> TableShape:
    """Read a table's shape from the engine's own catalogue."""
    return _duckdb_shape(connection, table) if connection.dialect.name == "duckdb" else _postgresql_shape(connection, table)


def _duckdb_shape(connection: sa.Connection, table: str) -> TableShape:
    def ask(sql: str) -> Iterable[Any]:
        return connection.execute(
            sa.text(f"{sql} WHERE table_name = :table AND database_name = current_database()"), {"table": table}
        ).all()

    constraints = ask(
        "SELECT constraint_type, constraint_column_names, referenced_table, referenced_column_names FROM duckdb_constraints()"
    )

    def columns_of(kind: str) -> set[tuple[str, ...]]:
        return {tuple(row.constraint_column_names) for row in constraints if row.constraint_type == kind}

    columns = sorted(ask("SELECT column_index, column_name, is_nullable FROM duckdb_columns()"))
    return TableShape(
        columns=[(row.column_name, row.is_nullable) for row in columns],
        primary_key=next(iter(columns_of("PRIMARY KEY")), ()),
        unique=columns_of("UNIQUE"),
        foreign_keys={
            (tuple(row.constraint_column_names), row.referenced_table, tuple(row.referenced_column_names))
            for row in constraints
            if row.constraint_type == "FOREIGN KEY"
        },
        indexes={
            (row.index_name, tuple(re.findall(r"\w+", row.expressions)), row.is_unique)
            for row in ask("SELECT index_name, CAST(expressions AS VARCHAR) AS expressions, is_unique FROM duckdb_indexes()")
        },
    )


def _postgresql_shape(connection: sa.Connection, table: str) -> TableShape:
    inspector = sa.inspect(connection)
    return TableShape(
        columns=[(column["name"], column["nullable"]) for column in inspector.get_columns(table)],
        primary_key=tuple(inspector.get_pk_constraint(table)["constrained_columns"]),
        unique={tuple(constraint["column_names"]) for constraint in inspector.get_unique_constraints(table)},
        foreign_keys={
            (tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"]))
            for key in inspector.get_foreign_keys(table)
        },
        indexes={
            (str(index["name"]), tuple(str(name) for name in index["column_names"]), index["unique"])
            for index in inspector.get_indexes(table)
        },
    )


def read_schema(url: str) -> dict[str, TableShape]:
    """Read the shape of every table."""
    engine = create_database_engine(url)
    with engine.connect() as connection:
        schema = {table: found_shape(connection, table) for table in sa.inspect(connection).get_table_names()}
    engine.dispose()
    return schema


def run(url: str, *statements: str) -> None:
    engine = create_database_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def script_directory() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_versions_heads_are_one() -> None:
    assert script_directory().get_heads() == [HEAD_REVISION]


def test_versions_in_order_equal_the_programs_list() -> None:
    linear = [script.revision for script in script_directory().walk_revisions()][::-1]

    assert tuple(linear) == REVISIONS
    assert [path.stem[len("2026_11_23_0900_") :] for path in FILES] == list(REVISIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_revision_docstring_says_what_and_why(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    place = REVISIONS.index(path.stem[16:])

    said, _, header = docstring.partition("\nRevision ID: ")
    title, *reasons = said.strip().split("\n\n")

    assert title.endswith(".")
    assert len(" ".join(reasons)) > 100
    year, month, day, time = path.stem.split("_")[:4]
    assert header.splitlines() == [
        REVISIONS[place],
        f"Revises: {REVISIONS[place - 1]}" if place else "Revises:",
        f"Created: {year}-{month}-{day} {time[:2]}:{time[2:]} UTC",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_revision_imports_nothing_of_the_application_but_the_frozen_helpers(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))

    foreign = {module for module in imported if module.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {"alembic", "opencode_monitor.db.migrate", "sqlalchemy"}


@pytest.mark.usefixtures("kept_open")
def test_upgrade_and_downgrade_of_an_empty_database_leave_nothing_and_repeat(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    first = read_schema(empty_database_url)
    downgrade(empty_database_url, "base")
    between = read_schema(empty_database_url)
    upgrade(empty_database_url)

    assert set(first) == {*Base.metadata.tables, PARTS_LEGACY, "alembic_version"}
    assert set(between) == {"alembic_version"}
    assert read_schema(empty_database_url) == first


@pytest.mark.usefixtures("kept_open")
def test_upgrade_one_by_one_stops_at_each_revision(empty_database_url: str) -> None:
    engine = create_database_engine(empty_database_url)
    stations = []
    for revision in REVISIONS:
        upgrade(empty_database_url, revision)
        with engine.connect() as connection:
            stations.append(current_revision(connection))
    for _ in REVISIONS:
        downgrade(empty_database_url, "-1")
        with engine.connect() as connection:
            stations.append(current_revision(connection))
    engine.dispose()

    assert stations == [*REVISIONS, *REVISIONS[-2::-1], None]


@pytest.mark.usefixtures("kept_open")
def test_compare_metadata_at_head_finds_no_difference(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    engine = create_database_engine(empty_database_url)
    with engine.connect() as connection:
        opts = {"compare_type": compare_type, "compare_server_default": compare_server_default, "include_object": include_object}
        context = MigrationContext.configure(connection, opts=opts)

        differences = compare_metadata(context, Base.metadata)
    engine.dispose()

    assert differences == []


@pytest.mark.usefixtures("kept_open")
def test_upgrade_head_has_the_shape_of_the_models(empty_database_url: str) -> None:
    upgrade(empty_database_url)

    schema = read_schema(empty_database_url)

    assert {name: schema[name] for name in Base.metadata.tables} == {
        name: wanted_shape(table) for name, table in Base.metadata.tables.items()
    }
    assert schema[PARTS_LEGACY].primary_key == ("part_id",)


def test_read_schema_sees_what_autogenerate_may_not(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    run(
        empty_database_url,
        "CREATE TABLE again AS SELECT * FROM model_aliases",
        "DROP TABLE model_aliases",
        "ALTER TABLE again RENAME TO model_aliases",
        "DROP TABLE model_pricing",
        "CREATE TABLE model_pricing (model_name TEXT PRIMARY KEY, vendor TEXT UNIQUE)",
        "DROP TABLE session_stats",
        "CREATE TABLE session_stats (session_id TEXT PRIMARY KEY)",
        "CREATE UNIQUE INDEX extra ON import_issues (source_id)",
        "ALTER TABLE sources ALTER COLUMN kind DROP NOT NULL",
    )

    found = read_schema(empty_database_url)

    wanted = {name: wanted_shape(table) for name, table in Base.metadata.tables.items()}
    assert (wanted["model_aliases"].primary_key, found["model_aliases"].primary_key) == (("model_id",), ())
    assert (wanted["model_pricing"].unique, found["model_pricing"].unique) == (set(), {("vendor",)})
    assert (len(wanted["session_stats"].foreign_keys), found["session_stats"].foreign_keys) == (1, set())
    assert found["import_issues"].indexes - wanted["import_issues"].indexes == {("extra", ("source_id",), True)}
    assert set(found["sources"].columns) - set(wanted["sources"].columns) == {("kind", True)}


def test_baseline_parts_has_the_29_columns(empty_database_url: str) -> None:
    upgrade(empty_database_url, "baseline")
    engine = create_database_engine(empty_database_url)
    with engine.connect() as connection:
        types = connection.execute(
            sa.text("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'parts' ORDER BY ordinal_position")
        ).all()
    engine.dispose()

    assert len(types) == 29
    assert [(name, POSTGRESQL_TYPE.get(type_, type_.lower())) for name, type_ in types] == list(BASELINE_PARTS.items())
    assert read_schema(empty_database_url)["parts"] == TableShape(
        columns=[(name, name != "part_id") for name in BASELINE_PARTS],
        primary_key=("part_id",),
        unique=set(),
        foreign_keys=set(),
        indexes=set(),
    )
