"""Order-independent checksums of any relation, computed in SQL, the same on both engines.

Each value is hashed together with its row's key, so that two values which change places change the sum. A revision uses this module, which
makes it frozen: a change of the formula would break the proofs that are stored in `migration_audit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# A statement over all columns of a join of ten tables holds their texts at once: a gigabyte did not do for two million rows.
_COLUMNS_AT_ONCE = 6
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
        counts = iter(values)
        found |= {name: (int(next(counts)), str(int(next(counts) or 0))) for name in group}
    return Checksum(int(rows), found)
