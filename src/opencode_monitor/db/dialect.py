"""DuckDB for SQLAlchemy: duckdb-engine, with the reflection it lost and private files.

Importing this module makes `create_engine("duckdb:///...")` use `DuckDBDialect`.

duckdb-engine 0.17 runs every statement, but asks PostgreSQL's catalogue tables what the database looks like, and DuckDB
no longer answers there (`Referenced table "pg_catalog.pg_collation" not found!`). Here DuckDB's own catalogue functions
are asked instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import duckdb_engine
import sqlalchemy as sa
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler, PGIdentifierPreparer
from sqlalchemy.engine import reflection
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import interfaces
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["DuckDBDialect", "integer_division", "make_spill_directory", "owner_only", "wide_division"]

MEMORY = ":memory:"

RESERVED_WORDS = frozenset(
    {
        "describe",
        "lambda",
        "lateral",
        "pivot",
        "pivot_longer",
        "pivot_wider",
        "qualify",
        "show",
        "summarize",
        "unpivot",
    }
)
"""The words that DuckDB reserves and PostgreSQL does not: as names they need quotes."""

_TYPES: dict[str, type[sqltypes.TypeEngine[Any]]] = {
    "BIGINT": sqltypes.BIGINT,
    "BLOB": sqltypes.LargeBinary,
    "BOOLEAN": sqltypes.BOOLEAN,
    "DATE": sqltypes.DATE,
    "DOUBLE": sqltypes.DOUBLE,
    "FLOAT": sqltypes.REAL,
    "INTEGER": sqltypes.INTEGER,
    "JSON": sqltypes.JSON,
    "SMALLINT": sqltypes.SMALLINT,
    "TIME": sqltypes.TIME,
    "TIMESTAMP": sqltypes.TIMESTAMP,
    "UUID": sqltypes.UUID,
    "VARCHAR": sqltypes.VARCHAR,
}

# Settings of `db.engine`, none of which is an extension's.
_DUCKDBS_OWN = {
    *("autoinstall_known_extensions", "autoload_known_extensions", "checkpoint_threshold", "memory_limit"),
    *("python_enable_replacements", "temp_directory", "threads"),
}

_umask_lock = threading.RLock()


@contextlib.contextmanager
def owner_only() -> Iterator[None]:
    """Make files that DuckDB creates meanwhile readable by their owner alone: they hold prompts and code.

    The umask belongs to the whole process, hence the lock (which one thread may take twice): two overlapping changes would restore
    each other's value.
    """
    with _umask_lock:
        before = os.umask(0o077)
        try:
            yield
        finally:
            os.umask(before)


def make_spill_directory(connection: Any, file: str) -> None:
    """Make the directory where DuckDB puts what does not fit into memory; the connection's close removes it.

    DuckDB makes it when a query first needs it, and readable for all; what it finds, it leaves as it is.

    Args:
        connection: A driver's connection that holds the file by now: until then the directory may be another process's.
        file: The database's file.
    """
    connection.spill_directory = Path(f"{file}.tmp")
    with contextlib.suppress(OSError):
        connection.spill_directory.mkdir(mode=0o700)


class _DdlCompiler(PGDDLCompiler):
    """PostgreSQL's, without the kinds of index that DuckDB does not have: it has one."""

    def visit_create_index(self, create: Any, **kw: Any) -> str:  # type: ignore[override] # the two optional arguments travel in kw
        """Write CREATE INDEX without its method."""
        statement: str = super().visit_create_index(create, **kw)  # type: ignore[no-untyped-call] # SQLAlchemy's
        return re.sub(r" USING \w+ ", " ", statement, count=1)


class _IdentifierPreparer(duckdb_engine.DuckDBIdentifierPreparer):
    """duckdb-engine's, without the database in memory that it makes to ask which words are reserved."""

    reserved_words = PGIdentifierPreparer.reserved_words | RESERVED_WORDS

    def __init__(self, dialect: sa.Dialect, **kw: Any) -> None:
        PGIdentifierPreparer.__init__(self, dialect, **kw)


class DuckDBDialect(duckdb_engine.Dialect):
    """duckdb-engine's dialect with reflection of the current database and schema."""

    # duckdb-engine leaves it off without a reason. The statements come from SQLAlchemy's PostgreSQL compiler, which is
    # built for the cache; IN lists, limits and literals are tested with it.
    supports_statement_cache = True

    # DuckDB takes and gives Decimal; without this SQLAlchemy makes a double of every amount, both ways.
    supports_native_decimal = True

    ddl_compiler = _DdlCompiler
    preparer = _IdentifierPreparer

    # PostgreSQL's inspector asks for enums, domains and oids, which have no meaning here.
    inspector = Inspector  # type: ignore[assignment] # duckdb-engine promises more than it answers

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """Open the file so that nobody else can read it, with UTC as the zone of the session.

        The zone matters because `now()` is an instant, and a TIMESTAMP column stores the clock time of the session.
        """
        with owner_only():
            connection = self._open(*cargs, **cparams)
        connection.spill_directory = None
        if not cparams["database"].startswith(MEMORY):
            make_spill_directory(connection, cparams["database"])
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB writes one to the standard output, whatever that is, when a statement takes longer than two seconds.
        connection.execute("SET enable_progress_bar = false")
        return connection

    def _open(self, *cargs: Any, url_config: dict[str, Any] | None = None, **cparams: Any) -> Any:
        """Open the file by duckdb-engine, which tells DuckDB's settings from those of extensions: where there are others than DuckDB's.

        To tell them it makes a database in memory and asks that, in 25 ms at the start of every command.
        """
        if url_config or not cparams.get("config", {}).keys() <= _DUCKDBS_OWN:
            return super().connect(*cargs, url_config=url_config or {}, **cparams)
        return duckdb_engine.ConnectionWrapper(duckdb.connect(*cargs, **cparams))

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: interfaces.ExecutionContext | None = None) -> None:
        """Run a statement."""
        with _interrupted_as_such():
            super().do_execute(cursor, statement, parameters, context)  # type: ignore[no-untyped-call] # SQLAlchemy's

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit; this is when DuckDB makes its write-ahead log."""
        with owner_only(), _interrupted_as_such():
            super().do_commit(dbapi_connection)  # type: ignore[no-untyped-call] # SQLAlchemy's

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll back; where DuckDB gave the database up, as on a full disk, nothing is left to, and the first error is the one to tell."""
        with contextlib.suppress(duckdb.FatalException):
            super().do_rollback(dbapi_connection)

    def do_close(self, dbapi_connection: Any) -> None:
        """Close, which rewrites the log into the file, and tidy up."""
        with owner_only():
            super().do_close(dbapi_connection)  # type: ignore[no-untyped-call] # SQLAlchemy's
        _remove_spill_directory(dbapi_connection.spill_directory)

    @reflection.cache
    def get_table_names(self, connection: sa.Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """List the tables of the current database, without temporary ones."""
        del kw
        return [row.table_name for row in self._catalogue(connection, "duckdb_tables()", schema)]

    @reflection.cache
    def get_view_names(self, connection: sa.Connection, schema: str | None = None, include: Any | None = None, **kw: Any) -> list[str]:
        """List the views of the current database, without DuckDB's own."""
        del include, kw
        return [row.view_name for row in self._catalogue(connection, "duckdb_views()", schema) if not row.internal]

    def has_table(self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        """Tell whether a table or a view has this name."""
        del kw
        names = self.get_table_names(connection, schema=schema) + self.get_view_names(connection, schema=schema)
        return table_name in names

    @reflection.cache
    def get_columns(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[interfaces.ReflectedColumn]:
        """List the columns in their order."""
        del kw
        rows = self._catalogue(connection, "duckdb_columns()", schema, table_name)
        columns: list[interfaces.ReflectedColumn] = []
        for row in sorted(rows, key=lambda row: int(row.column_index)):
            column: interfaces.ReflectedColumn = {
                "name": row.column_name,
                "type": _column_type(row.data_type),
                "nullable": row.is_nullable,
                "default": None if row.is_generated else row.column_default,
                "autoincrement": False,
                "comment": row.comment,
            }
            if row.is_generated:
                column["computed"] = {"sqltext": row.generation_expression, "persisted": False}
            columns.append(column)
        return columns

    @reflection.cache
    def get_pk_constraint(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> interfaces.ReflectedPrimaryKeyConstraint:
        """Answer with the primary key, under the name that DuckDB gives it."""
        del kw
        for row in self._constraints(connection, "PRIMARY KEY", table_name, schema):
            return {"constrained_columns": list(row.constraint_column_names), "name": row.constraint_name}
        return {"constrained_columns": [], "name": None}

    @reflection.cache
    def get_foreign_keys(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[interfaces.ReflectedForeignKeyConstraint]:
        """List the outgoing foreign keys; DuckDB knows them within one schema only, and without actions."""
        del kw
        return [
            {
                "name": row.constraint_name,
                "constrained_columns": list(row.constraint_column_names),
                "referred_schema": schema,
                "referred_table": row.referenced_table,
                "referred_columns": list(row.referenced_column_names),
                "options": {},
            }
            for row in self._constraints(connection, "FOREIGN KEY", table_name, schema)
        ]

    @reflection.cache
    def get_unique_constraints(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[interfaces.ReflectedUniqueConstraint]:
        """List the unique constraints, under the names that DuckDB gives them."""
        del kw
        return [
            {"name": row.constraint_name, "column_names": list(row.constraint_column_names)}
            for row in self._constraints(connection, "UNIQUE", table_name, schema)
        ]

    @reflection.cache
    def get_check_constraints(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[interfaces.ReflectedCheckConstraint]:
        """List the check constraints as DuckDB rewrote them."""
        del kw
        return [
            {"name": row.constraint_name, "sqltext": row.expression} for row in self._constraints(connection, "CHECK", table_name, schema)
        ]

    @reflection.cache
    def get_indexes(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[interfaces.ReflectedIndex]:
        """List the indexes made by CREATE INDEX; those behind keys are no entries of DuckDB's catalogue."""
        del kw
        columns = {row.column_name for row in self._catalogue(connection, "duckdb_columns()", schema, table_name)}
        indexes: list[interfaces.ReflectedIndex] = []
        # The expressions are a list only in print, with quotes and escapes of its own: DuckDB reads it back.
        rows = "(SELECT * REPLACE (CAST(expressions AS VARCHAR[]) AS expressions) FROM duckdb_indexes())"
        for row in self._catalogue(connection, rows, schema, table_name):
            expressions = [_unquote(expression) for expression in row.expressions]
            names = [name if name in columns else None for name in expressions]
            index: interfaces.ReflectedIndex = {"name": row.index_name, "column_names": names, "unique": row.is_unique}
            if None in names:
                index["expressions"] = expressions
            indexes.append(index)
        return sorted(indexes, key=lambda index: str(index["name"]))

    @reflection.cache
    def get_table_options(self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any) -> dict[str, Any]:
        """Answer with nothing: a DuckDB table has no options."""
        del connection, table_name, schema, kw
        return {}

    @reflection.cache
    def get_table_comment(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> interfaces.ReflectedTableComment:
        """Answer with the table's comment."""
        del kw
        for row in self._catalogue(connection, "duckdb_tables()", schema, table_name):
            return {"text": row.comment}
        return {"text": None}

    def _constraints(self, connection: sa.Connection, kind: str, table_name: str, schema: str | None) -> list[sa.Row[Any]]:
        rows = self._catalogue(connection, "duckdb_constraints()", schema, table_name)
        return [row for row in rows if row.constraint_type == kind]

    def _catalogue(self, connection: sa.Connection, catalogue: str, schema: str | None, table_name: str | None = None) -> list[sa.Row[Any]]:
        """Ask one catalogue function about the current database.

        Raises:
            NoSuchTableError: When a table is asked for by name and neither a table nor a view has it.
        """
        query = (
            f"SELECT * FROM {catalogue} "  # noqa: S608 - the functions' names are written in this class
            "WHERE database_name = current_database() AND schema_name = coalesce($1, current_schema())"
        )
        parameters: tuple[str | None, ...] = (schema,)
        if table_name is not None:
            query += " AND table_name = $2"
            parameters += (table_name,)
        # All rows at once: cursors share DuckDB's one connection, and the next statement cuts an unread result off.
        rows = list(connection.exec_driver_sql(query, parameters).all())
        if table_name is not None and not rows and not self.has_table(connection, table_name, schema=schema):
            raise NoSuchTableError(table_name)
        return rows


@contextlib.contextmanager
def _interrupted_as_such() -> Iterator[None]:
    """Let Ctrl-C stay what it is: DuckDB makes an error of it that has no class of its own."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from error


def _remove_spill_directory(spill: Path | None) -> None:
    """Remove the directory unless it is in use: DuckDB keeps a file in it from the first spill to the close."""
    if spill is not None:
        with contextlib.suppress(OSError):
            spill.rmdir()


def _column_type(name: str) -> sqltypes.TypeEngine[Any]:
    """Turn DuckDB's name of a type into SQLAlchemy's type; NULL type for what this project never stores."""
    if name.endswith("[]"):
        return sqltypes.ARRAY(_column_type(name[:-2]))
    if name == "TIMESTAMP WITH TIME ZONE":
        return sqltypes.TIMESTAMP(timezone=True)
    if match := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", name):
        return sqltypes.NUMERIC(int(match[1]), int(match[2]))
    return _TYPES.get(name, sqltypes.NullType)()


def _unquote(expression: str) -> str:
    """Turn `"position"` into the name of the column; any other expression stays."""
    if re.fullmatch(r'"(?:[^"]|"")*"', expression):
        return expression[1:-1].replace('""', '"')
    return expression


class _IntegerDivision(FunctionElement[int]):
    """See `integer_division`."""

    name = "integer_division"
    type = sqltypes.BigInteger()
    inherit_cache = True


def integer_division(dividend: Any, divisor: Any) -> sa.ColumnElement[int]:
    """Divide two BIGINTs without a remainder, exactly; a zero divisor gives NULL.

    SQLAlchemy's own `//` becomes FLOOR(a / b) on DuckDB: a division of doubles, which loses the last digits of a big
    count. Operands are meant to be non-negative: PostgreSQL rounds towards zero.
    """
    return _IntegerDivision(sa.cast(dividend, sqltypes.BigInteger), sa.func.nullif(sa.cast(divisor, sqltypes.BigInteger), 0))


@compiles(_IntegerDivision, "duckdb")
def _divide_on_duckdb(element: _IntegerDivision, compiler: SQLCompiler, **kw: Any) -> str:
    dividend, divisor = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({dividend} // {divisor})"


@compiles(_IntegerDivision, "postgresql")
def _divide_on_postgresql(element: _IntegerDivision, compiler: SQLCompiler, **kw: Any) -> str:
    dividend, divisor = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({dividend} / {divisor})"


class _WideDivision(FunctionElement[Any]):
    """See `wide_division`."""

    name = "wide_division"
    type = sqltypes.Numeric(38, 0)
    inherit_cache = True


def wide_division(dividend: Any, divisor: Any) -> sa.ColumnElement[Any]:
    """Divide two whole numbers of up to 38 digits without a remainder, exactly; a zero divisor gives NULL.

    Operands are meant to be non-negative: PostgreSQL rounds towards zero.
    """
    whole = sqltypes.Numeric(38, 0)
    return _WideDivision(sa.cast(dividend, whole), sa.func.nullif(sa.cast(divisor, whole), 0))


@compiles(_WideDivision, "duckdb")
def _divide_wide_on_duckdb(element: _WideDivision, compiler: SQLCompiler, **kw: Any) -> str:
    # Of two DECIMALs, DuckDB divides their doubles.
    dividend, divisor = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(CAST({dividend} AS HUGEINT) // CAST({divisor} AS HUGEINT))"


@compiles(_WideDivision, "postgresql")
def _divide_wide_on_postgresql(element: _WideDivision, compiler: SQLCompiler, **kw: Any) -> str:
    dividend, divisor = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"div({dividend}, {divisor})"


# PostgreSQL's methods answer for many tables at once from its own catalogue; the default ones ask the methods above.
for _kind in (
    "check_constraints",
    "columns",
    "foreign_keys",
    "indexes",
    "pk_constraint",
    "table_comment",
    "table_options",
    "unique_constraints",
):
    setattr(DuckDBDialect, f"get_multi_{_kind}", getattr(DefaultDialect, f"get_multi_{_kind}"))
DuckDBDialect.has_multi_table = DefaultDialect.has_multi_table  # type: ignore[method-assign] # as these

for _name in ("duckdb", "duckdb.duckdb_engine"):
    registry.register(_name, __name__, DuckDBDialect.__name__)
