"""What Alembic must know to compare the models with a database, on both engines.

Apart from `dialect`, because importing Alembic takes a second that only migrations should pay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic.ddl.impl import DefaultImpl

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.runtime.migration import MigrationContext

__all__ = ["AlembicDuckDBImpl", "compare_server_default", "compare_type", "include_object"]

PARTS_LEGACY = "parts_legacy"
"""The table that a migration sets aside: no model describes it, and whether it is still there is the user's choice."""

_TYPE_SYNONYMS = {
    "CHAR": "VARCHAR",
    "DATETIME": "TIMESTAMP",
    "DOUBLE PRECISION": "DOUBLE",
    "STRING": "VARCHAR",
    "TEXT": "VARCHAR",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
}


class AlembicDuckDBImpl(DefaultImpl):
    """Alembic's DuckDB; being imported registers it."""

    __dialect__ = "duckdb"
    # DefaultImpl says False, with which a failed revision would leave half of its work behind.
    transactional_ddl = True

    def correct_for_autogen_constraints(
        self,
        conn_uniques: set[sa.UniqueConstraint],
        conn_indexes: set[sa.Index],
        metadata_unique_constraints: set[sa.UniqueConstraint],
        metadata_indexes: set[sa.Index],
    ) -> None:
        """Match unique constraints by their columns: DuckDB forgets the names by which Alembic would match them."""
        del conn_indexes, metadata_indexes
        present = {tuple(constraint.columns.keys()): constraint for constraint in conn_uniques}
        for wanted in list(metadata_unique_constraints):
            if (found := present.get(tuple(wanted.columns.keys()))) is not None:
                metadata_unique_constraints.discard(wanted)
                conn_uniques.discard(found)


def include_object(
    obj: sa.schema.SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: sa.schema.SchemaItem | None
) -> bool:
    """Leave out what no model describes on purpose."""
    del obj, reflected, compare_to
    return not (type_ == "table" and name == PARTS_LEGACY)


def compare_type(
    context: MigrationContext,
    inspected_column: sa.Column[Any],
    metadata_column: sa.Column[Any],
    inspected_type: sa.types.TypeEngine[Any],
    metadata_type: sa.types.TypeEngine[Any],
) -> bool | None:
    """Tell whether two types differ for DuckDB, to which TEXT and VARCHAR(20) are both VARCHAR.

    Returns:
        None on PostgreSQL, where Alembic's own comparison is right.
    """
    del inspected_column, metadata_column
    dialect = context.dialect
    if dialect.name != "duckdb":
        return None
    return _type_name(inspected_type, dialect) != _type_name(metadata_type.dialect_impl(dialect), dialect)


def _type_name(type_: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str:
    name = type_.compile(dialect).upper()
    name = re.sub(r"^(VARCHAR|TEXT|STRING|CHAR)\(\d+\)$", r"\1", name)
    return _TYPE_SYNONYMS.get(name, name)


def compare_server_default(
    context: MigrationContext,
    inspected_column: sa.Column[Any],
    metadata_column: sa.Column[Any],
    inspected_default: str | None,
    metadata_default: object,
    rendered_metadata_default: str | None,
) -> bool | None:
    """Tell whether two server defaults differ for DuckDB in more than spelling.

    Returns:
        None on PostgreSQL, where Alembic asks the server.
    """
    del inspected_column, metadata_column, metadata_default
    if context.dialect.name != "duckdb":
        return None
    return _default_value(inspected_default) != _default_value(rendered_metadata_default)


def _default_value(default: str | None) -> str | None:
    """Reduce a default to its value: DuckDB keeps `0` or `CAST('f' AS BOOLEAN)` for `'0'` or `'false'`."""
    if default is None:
        return None
    value = re.sub("current_timestamp", "now()", default.strip(), flags=re.IGNORECASE)
    if match := re.fullmatch(r"CAST\((.*) AS [A-Z0-9 (),]+\)", value, flags=re.IGNORECASE):
        value = match[1]
    value = value.strip("'() ")
    return {"f": "false", "t": "true"}.get(value.lower(), value)
