"""Order-independent checksums of any relation, computed in SQL, the same on both engines.

Each value is hashed together with its row's key, so that two values which change places change the sum. A revision uses this module, which
makes it frozen: a change of the formula would break the proofs that are stored in `migration_audit`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# A statement over all columns of a join of ten tables holds their texts at once: a gigabyte did not do for two million rows.
_COLUMNS_AT_ONCE = 6
_SHOWN_DIGITS = 12
_HEX_DIGITS = 15  # 60 bits of the MD5 fit a BIGINT, and the sum of any number of rows a NUMERIC


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a relation holds.

    Attributes:
        rows: How many rows.
        columns: For each column how many values are not NULL, and their checksum as decimal digits.
    """

    rows: int
    columns: Mapping[str, tuple[int, str]]

    def differences(self, other: Checksum) -> list[str]:
        """Return the names of the columns that differ (and "rows" where the number of rows does)."""
        names = [name for name in {**self.columns, **other.columns} if self.columns.get(name) != other.columns.get(name)]
        return names if self.rows == other.rows else ["rows", *names]

    def over(self, columns: Iterable[str]) -> Checksum:
        """Return the part of the checksum that is about some columns."""
        wanted = set(columns)
        return Checksum(self.rows, {name: value for name, value in self.columns.items() if name in wanted})

    def digest(self) -> str:
        """Return twelve digits that stand for the whole where people compare."""
        text = json.dumps([self.rows, sorted((name, *value) for name, value in self.columns.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:_SHOWN_DIGITS]

    def as_json(self) -> dict[str, object]:
        """Return what `from_json` reads back."""
        return {"rows": self.rows, "columns": {name: list(value) for name, value in self.columns.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Checksum:
        """Return the checksum that `as_json` made the document of."""
        return cls(int(document["rows"]), {name: (int(count), str(digits)) for name, (count, digits) in document["columns"].items()})


def checksum(
    connection: sa.Connection, relation: str | Callable[[Sequence[str]], str], key: Sequence[str], columns: Sequence[str]
) -> Checksum:
    """Compute the checksum of a relation.

    Args:
        connection: Any connection to the database.
        relation: A table's name, a parenthesised SELECT, or what makes one for the columns that it is given: a view over many tables
            then reads only those that it needs.
        key: The columns that identify a row.
        columns: The columns to cover; JSON counts by its text, other values by the text that a cast makes of them.

    Returns:
        The checksum.
    """
    is_duckdb = connection.dialect.name == "duckdb"
    quote = connection.dialect.identifier_preparer.quote
    row = ", chr(31), ".join(f"CAST({quote(name)} AS TEXT)" for name in key)
    rows = 0
    found: dict[str, tuple[int, str]] = {}
    for first in range(0, len(columns), _COLUMNS_AT_ONCE):
        group = columns[first : first + _COLUMNS_AT_ONCE]
        terms = ["count(*)"]
        for name in group:
            digits = f"substr(md5(concat({row}, chr(31), CAST({quote(name)} AS TEXT))), 1, {_HEX_DIGITS})"
            number = f"CAST('0x' || {digits} AS BIGINT)" if is_duckdb else f"CAST(CAST('x' || {digits} AS bit(60)) AS BIGINT)"
            terms += [f"count({quote(name)})", f"sum(CASE WHEN {quote(name)} IS NOT NULL THEN {number} END)"]
        source = relation if isinstance(relation, str) else relation([*key, *group])
        rows, *values = connection.execute(sa.text(f"SELECT {', '.join(terms)} FROM {source} AS checked")).one()  # noqa: S608 - the caller's own names
        if not rows:
            # Nothing is in the other columns either.
            return Checksum(0, dict.fromkeys(columns, (0, "0")))
        counts = iter(values)
        found |= {name: (int(next(counts)), str(int(next(counts) or 0))) for name in group}
    return Checksum(int(rows), found)


def row_counts(connection: sa.Connection, tables: Sequence[str]) -> dict[str, int]:
    """Count the rows of tables, in one statement.

    Args:
        connection: Any connection to the database.
        tables: Their names.
    """
    if not tables:
        return {}
    quote = connection.dialect.identifier_preparer.quote
    # One below the other: DuckDB plans as many subqueries beside each other ten times as long.
    counts = [f"SELECT {place} AS place, count(*) FROM {quote(table)}" for place, table in enumerate(tables)]  # noqa: S608 - names out of the catalogue
    return {tables[place]: int(rows) for place, rows in connection.execute(sa.text(" UNION ALL ".join(counts) + " ORDER BY place")).all()}


def table_checksum(connection: sa.Connection, table: str, *, leave_out: str | None = None, database: str | None = None) -> Checksum:
    """Compute the checksum of a whole table, whatever columns it has at its revision.

    Args:
        connection: Any connection to the database.
        table: Its name; a table without a primary key is counted only.
        leave_out: The SQL condition of rows that do not count.
        database: The name under which another DuckDB file with the same table is attached.
    """
    quote = connection.dialect.identifier_preparer.quote
    relation = quote(table) if database is None else f"{quote(database)}.{quote(table)}"
    if leave_out is not None:
        relation = f"(SELECT * FROM {relation} WHERE ({leave_out}) IS NOT TRUE)"  # noqa: S608 - the caller's own text
    key, columns = _shape(connection, table)
    if not key:
        rows = connection.scalar(sa.text(f"SELECT count(*) FROM {relation} AS checked"))  # noqa: S608 - as above
        return Checksum(int(rows or 0), {})
    return checksum(connection, relation, key, columns)


def _shape(connection: sa.Connection, table: str) -> tuple[list[str], list[str]]:
    """Return the columns of a table's primary key, and all."""
    if connection.dialect.name == "duckdb":
        # The inspector looks through what DuckDB knows of all tables, twice, in eight times the time. In which order a key has its columns
        # is not said here.
        name = connection.dialect.identifier_preparer.quote_identifier(table)
        rows = connection.exec_driver_sql("SELECT name, pk FROM pragma_table_info($1)", (name,)).all()
        key = [row.name for row in rows if row.pk]
        if len(key) <= 1:
            return key, [row.name for row in rows]
    inspector = sa.inspect(connection)
    return inspector.get_pk_constraint(table)["constrained_columns"], [column["name"] for column in inspector.get_columns(table)]
