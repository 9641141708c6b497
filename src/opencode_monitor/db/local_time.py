"""Times as the clocks of a zone showed them: what every day, week and month of a report is cut by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.sql.compiler import SQLCompiler


_UTC = ("UTC", "Etc/UTC")
"""Its names; the second is what a system without a zone of its own is set to."""


class _Instant(FunctionElement[Any]):
    """A stored time, which is UTC without a zone, as a time with one."""

    name = "instant"
    type = sa.TIMESTAMP(timezone=True)
    inherit_cache = True


def local_time(created_at: Any, tz: str) -> sa.ColumnElement[datetime]:
    """Return what the clocks of a zone showed at an instant, without a zone.

    Args:
        created_at: The instant, as stored: UTC.
        tz: The IANA zone.
    """
    if tz in _UTC:
        # As stored. Asked by way of the zone's rules, it would be half of the time that a report of days takes.
        return sa.type_coerce(created_at, sa.DateTime())
    return sa.func.timezone(tz, _Instant(created_at), type_=sa.DateTime())


@compiles(_Instant, "duckdb")
def _instant_on_duckdb(element: _Instant, compiler: SQLCompiler, **kw: Any) -> str:
    # Not timezone('UTC', ...), which looks up the rules of UTC for each row, and takes as long as the zone's own.
    return f"make_timestamptz(epoch_us({compiler.process(element.clauses, **kw)}))"


@compiles(_Instant, "postgresql")
def _instant_on_postgresql(element: _Instant, compiler: SQLCompiler, **kw: Any) -> str:
    return f"timezone('UTC', {compiler.process(element.clauses, **kw)})"
