"""Rows into a file. DuckDB writes every format, also for rows that come from PostgreSQL: those pass through a DuckDB file of the moment."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.spreadsheets import FORMULA
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Format = Literal["csv", "jsonl", "parquet"]

BATCH_ROWS = 5_000
_OPTIONS: dict[Format, str] = {
    "csv": "FORMAT csv, HEADER true",
    "jsonl": "FORMAT json, ARRAY false",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}


def format_of(file: Path) -> Format:
    """Return the format that a file's name asks for.

    Raises:
        UsageError: It asks for none that there is.
    """
    suffix = file.suffix.lower().removeprefix(".")
    for name in _OPTIONS:
        if suffix == name:
            return name
    raise UsageError(f"{file}: the name must end in .csv, .jsonl or .parquet.")


def write_statement(connection: sa.Connection, statement: sa.Select[Any], file: Path) -> int:
    """Write the answer of a statement to a file, which is there wholly or not at all.

    Args:
        connection: Where to ask; nothing is written to the database.
        statement: Its columns are the file's, in their order.
        file: What to write, readable by its owner alone; one of the same name is replaced.

    Returns:
        The number of rows.

    Raises:
        UsageError: The name asks for an unknown format, or the directory is not there.
    """
    if connection.dialect.name == "duckdb":
        return _copy(connection, statement, file)
    columns = [sa.Column(column.key, column.type) for column in statement.selected_columns]
    # JSON as the text that it is: of one that was read, nobody can tell the text "12" from the number.
    texts = statement.with_only_columns(
        *(
            sa.cast(column, sa.Text()).label(column.key) if isinstance(_plain(column.type), sa.JSON) else column
            for column in statement.selected_columns
        )
    )
    batches = connection.execution_options(yield_per=BATCH_ROWS).execute(texts).partitions()
    return write_rows(columns, batches, file)


def write_rows(columns: Sequence[sa.Column[Any]], batches: Iterable[Sequence[Sequence[Any]]], file: Path) -> int:
    """Write rows to a file, which is there wholly or not at all.

    Args:
        columns: Names and types.
        batches: The rows, some thousand at a time.
        file: As for `write_statement`.

    Returns:
        The number of rows.

    Raises:
        UsageError: As for `write_statement`.
    """
    format_of(file)
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-") as directory:
        engine = create_database_engine(f"duckdb:///{directory}/rows.duckdb")
        table = sa.Table("rows", sa.MetaData(), *(sa.Column(column.name, column.type) for column in columns))
        with engine.connect() as connection:
            with connection.begin():
                table.create(connection)
            for batch in batches:
                with connection.begin(), staged(connection, "batch", columns, batch) as source:
                    connection.execute(sa.insert(table).from_select([column.name for column in columns], sa.select(source)))
            # A table without an order of its own keeps that of its rows.
            return _copy(connection, sa.select(table), file)


def _copy(connection: sa.Connection, statement: sa.Select[Any], file: Path) -> int:
    file_format = format_of(file)
    source = statement.subquery("source")
    shown = sa.select(*(_written(column, file_format).label(column.key) for column in source.c))
    query = str(shown.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    with replacing(file) as partial:
        target = str(partial).replace("'", "''")
        # Into the file that is there: one of DuckDB's own would be readable by all, and left behind by a kill.
        result = connection.exec_driver_sql(f"COPY ({query}) TO '{target}' ({_OPTIONS[file_format]}, USE_TMP_FILE false)")
        return int(result.scalar_one())


@contextmanager
def replacing(file: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """Yield the name to write to, beside the file whose place it takes once it is whole.

    Args:
        file: What to write in the end.
        mode: Who may read it.

    Raises:
        UsageError: The directory is not there, or what is there is no file: a device or a pipe, whose place none may take.
    """
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no directory {file.parent}.")
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is no regular file, and would be replaced by one. Write to standard output instead.")
    file = file.resolve()  # the file that a link leads to, and not the link
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)
    os.close(handle)
    partial = Path(name)
    # From the first byte on, and not only of the whole file.
    partial.chmod(mode)
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _written(column: sa.ColumnElement[Any], file_format: Format) -> sa.ColumnElement[Any]:
    """Return a column as a format has it: money exact, times in UTC and saying so, texts that no spreadsheet runs."""
    type_ = _plain(column.type)
    is_typed = file_format == "parquet"
    match type_:
        case sa.DateTime():
            if is_typed:
                return sa.func.timezone("UTC", column)
            return sa.func.strftime(column, "%Y-%m-%dT%H:%M:%S.%fZ")
        case sa.JSON():
            return column if file_format == "jsonl" else _guarded(sa.cast(column, sa.Text()), file_format)
        case sa.Numeric(asdecimal=True) if not is_typed and not isinstance(type_, sa.Float):
            return sa.func.regexp_replace(sa.cast(column, sa.Text()), r"\.?0+$", "")
        case sa.String():
            return _guarded(column, file_format)
        case _:
            return column


def _plain(type_: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_


def _guarded(text: sa.ColumnElement[str], file_format: Format) -> sa.ColumnElement[str]:
    if file_format != "csv":
        return text
    return sa.case((sa.func.regexp_matches(text, FORMULA), sa.literal("'").concat(text)), else_=text)
