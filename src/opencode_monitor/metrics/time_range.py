"""Ranges of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open range of time, in UTC; None leaves an end open."""

    start: datetime | None = None
    end: datetime | None = None

    def holds(self, at: Any) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that an instant, a column, lies in it; one that is not known does where both ends are open."""
        conditions: list[sa.ColumnElement[bool]] = []
        if self.start is not None:
            conditions.append(at >= self.start)
        if self.end is not None:
            conditions.append(at < self.end)
        return conditions


ALL_TIME = TimeRange()
"""Both ends open."""
