"""What can be exported: the tables of usage as they are, and what of them may be shown to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.exports.privacy import PRIVACY, Privacy
from opencode_monitor.models import Base

if TYPE_CHECKING:
    from datetime import datetime

TABLES = tuple(PRIVACY)
"""The names of the tables that can be exported."""


def table_statement(name: str, *, start: datetime | None = None, end: datetime | None = None, redact: bool = False) -> sa.Select[Any]:
    """Return the statement that selects a table for an export, by time and then key, so that two exports of the same rows are equal.

    Args:
        name: One of `TABLES`.
        start: Leave out rows from before; rows without a time, and tables without one, are always whole.
        end: Leave out rows from then on.
        redact: Leave out content, and hash paths.

    Returns:
        The statement; its columns are those of the table in their order.
    """
    table = Base.metadata.tables[name]
    rule = PRIVACY[name]
    columns: list[sa.ColumnElement[Any]] = [
        _hash(column).label(column.name) if redact and rule[column.name] is Privacy.PATH else column
        for column in table.columns
        if not (redact and rule[column.name] is Privacy.CONTENT)
    ]
    statement = sa.select(*columns)
    order: list[sa.ColumnElement[Any]] = list(table.primary_key.columns)
    if "created_at" in table.c:
        created_at = table.c.created_at
        if start is not None:
            statement = statement.where(sa.or_(created_at.is_(None), created_at >= start))
        if end is not None:
            statement = statement.where(sa.or_(created_at.is_(None), created_at < end))
        order.insert(0, created_at.asc().nulls_last())
    return statement.order_by(*order)


def _hash(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Hash a path: equal ones stay equal. Who can guess a path can check the guess, so this hides names and is no secret."""
    return sa.func.md5(column, type_=sa.Text())
